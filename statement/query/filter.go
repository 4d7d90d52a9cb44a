package query

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/eschaton-network/chand/statement"
	ctypes "github.com/eschaton-network/chand/types"
)

var (
	// ErrQuery is wrapped by every error that the one who asks can mend: syntax, names, types, limits.
	ErrQuery = errors.New("query can't be answered")
	// ErrCost is wrapped when an expression costs more than MaxCost on one statement.
	ErrCost = errors.New("expression is too expensive")
)

const (
	// MaxExpression bounds an expression's text: room for a bloom filter of some thousand statements.
	MaxExpression = 8 << 10
	// MaxCost bounds the evaluation on one statement, in CEL's cost units (about 1 us each). Usual filters take 5 to 50.
	MaxCost = 20_000
	// maxNesting bounds brackets in the text; maxLoops bounds exists() inside exists().
	maxNesting = 24
	maxLoops   = 2
	// maxRegex bounds the compiled size of a regular expression.
	maxRegex = 200
)

// names are the variables of the language, with what each holds.
var names = []struct {
	name, text string
	kind       *cel.Type
}{
	{"id", "the statement's CID", cel.StringType},
	{"issuer", "ed25519:… key that signed it", cel.StringType},
	{"subject", "the main subject", cel.StringType},
	{"subjects", "all subjects", cel.ListType(cel.StringType)},
	{"attributes", "what it says: attributes.rating.quality", cel.MapType(cel.StringType, cel.DynType)},
	{"paid", "it carries a receipt of a payment to one of its subjects", cel.BoolType},
	{"receipt", "payee, amount, payment_hash, height", cel.MapType(cel.StringType, cel.DynType)},
	{"schema", "schema hash in hex, or empty", cel.StringType},
	{"issued", "seconds since 1970 by the issuer's clock", cel.IntType},
	{"from", "first block of its validity", cel.IntType},
	{"until", "last block of its validity, 0 for no end", cel.IntType},
	{"not_before", "newest block that it names as known, 0 for none", cel.IntType},
	{"height", "the block now", cel.IntType},
	{"valid", "from <= height <= until", cel.BoolType},
}

// environment is the language. It is a constant of the package: nothing changes it after it was made.
var environment = newEnvironment()

func newEnvironment() *cel.Env {
	opts := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserErrorRecoveryLimit(4),
		cel.CrossTypeNumericComparisons(true),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateRegexProgramSizeLimit(maxRegex),
			cel.ValidateComprehensionNestingLimit(maxLoops), cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
		cel.Function("glob",
			cel.Overload("glob_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(celGlob)),
			cel.MemberOverload("string_glob_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(celGlob))),
		cel.Function("bloom",
			cel.Overload("bloom_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(celBloom))),
	}
	for _, n := range names {
		opts = append(opts, cel.Variable(n.name, n.kind))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil { // the options are constants
		panic(err)
	}
	return env
}

func celGlob(text, pattern ref.Val) ref.Val {
	t, ok1 := text.Value().(string)
	p, ok2 := pattern.Value().(string)
	if !ok1 || !ok2 {
		return types.NewErr("glob(text, pattern) wants two strings")
	}
	return types.Bool(Glob(t, p))
}

func celBloom(filter, value ref.Val) ref.Val {
	f, ok1 := filter.Value().(string)
	v, ok2 := value.Value().(string)
	if !ok1 || !ok2 {
		return types.NewErr("bloom(filter, text) wants two strings")
	}
	b, err := ParseBloom(f)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(b.Has(v))
}

// costs charges our functions by the bytes they look at; all others have CEL's own costs.
type costs struct{}

func (costs) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	if function != "glob" && function != "bloom" || len(args) != 2 {
		return nil
	}
	a, _ := args[0].Value().(string)
	b, _ := args[1].Value().(string)
	c := uint64(1 + (len(a)+len(b))/10)
	if function == "glob" { // every star may look at the whole text again
		c = uint64(1 + (len(a)+1)*(len(b)+1)/10)
	}
	return &c
}

// Filter is a compiled expression. It is immutable and safe for concurrent use.
type Filter struct {
	prog cel.Program
	keys []string
}

// Compile checks an expression and plans it. An empty expression matches everything. All errors wrap ErrQuery.
func Compile(expr string) (*Filter, error) {
	if len(expr) > MaxExpression {
		return nil, fmt.Errorf("%w: expression of %d bytes, want at most %d", ErrQuery, len(expr), MaxExpression)
	}
	text := expr
	if strings.TrimSpace(expr) == "" {
		text = "true"
	}
	ast, iss := environment.Parse(text)
	if iss.Err() != nil {
		return nil, explain(iss)
	}
	canonicalise(ast.NativeRep().Expr())
	ast, iss = environment.Check(ast)
	if iss.Err() != nil {
		return nil, explain(iss)
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("%w: the expression gives %s, want true or false; compare it with something", ErrQuery, t)
	}
	prog, err := environment.Program(ast, cel.CostTracking(costs{}), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	return &Filter{prog: prog, keys: plan(ast.NativeRep().Expr())}, nil
}

// explain adds the names of the language to an error about a name.
func explain(iss *cel.Issues) error {
	msg := iss.Err().Error()
	if !strings.Contains(msg, "undeclared reference") {
		return fmt.Errorf("%w: %s", ErrQuery, msg)
	}
	var list []string
	for _, n := range names {
		list = append(list, n.name)
	}
	hint := ""
	if _, rest, ok := strings.Cut(msg, "undeclared reference to '"); ok {
		name, _, _ := strings.Cut(rest, "'")
		if i := slices.IndexFunc(names, func(n struct {
			name, text string
			kind       *cel.Type
		}) bool {
			return near(n.name, name)
		}); i >= 0 {
			hint = fmt.Sprintf(" Did you mean %s?", names[i].name)
		} else {
			hint = fmt.Sprintf(" If it is an attribute, write attributes.%s.", name)
		}
	}
	return fmt.Errorf("%w: %s.%s Names: %s. Functions: glob(text, pattern), bloom(filter, text) and those of CEL", ErrQuery, msg, hint, strings.Join(list, ", "))
}

// near tells whether two names differ by one letter inserted, left out, changed, or by a swap of neighbours.
func near(a, b string) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	if len(a)-len(b) > 1 || len(b) < 2 {
		return false
	}
	i := 0
	for i < len(b) && a[i] == b[i] {
		i++
	}
	if len(a) > len(b) {
		return a[i+1:] == b[i:]
	}
	return i == len(b) || a[i+1:] == b[i+1:] || i+1 < len(b) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// Keys returns index keys such that every match stands under one of them, or nil when the expression pins nothing.
func (f *Filter) Keys() []string { return f.keys }

// Match tells whether a statement satisfies the filter at a height. A statement that lacks what the expression asks for,
// or has it in another type, does not match; only an expression that exceeds MaxCost is an error (ErrCost).
// cost is what the evaluation took.
func (f *Filter) Match(s *statement.Statement, now ctypes.Height) (match bool, cost uint64, err error) {
	out, det, err := f.prog.Eval(variables(s, now))
	if det != nil && det.ActualCost() != nil {
		cost = *det.ActualCost()
	}
	if err != nil {
		if cost > MaxCost || strings.Contains(err.Error(), "cost limit exceeded") {
			return false, cost, fmt.Errorf("%w: more than %d units on statement %s", ErrCost, MaxCost, s.ID)
		}
		return false, cost, nil
	}
	return out == types.True, cost, nil
}

func variables(s *statement.Statement, now ctypes.Height) map[string]any {
	var newest ctypes.Height
	for _, b := range s.NotBefore {
		newest = max(newest, b.Height)
	}
	schema, receipt := "", map[string]any{}
	if !s.Schema.IsZero() {
		schema = s.Schema.String()
	}
	if r := s.Receipt; r != nil {
		receipt = map[string]any{"payee": r.Payee.String(), "amount": r.Amount, "payment_hash": r.PaymentHash.String(), "height": int64(r.Height)}
	}
	return map[string]any{
		"id": s.ID.String(), "issuer": s.Issuer.String(), "subject": s.Subject(), "subjects": s.Subjects,
		"attributes": map[string]any(s.Attributes), "paid": s.PaidFor(), "receipt": receipt, "schema": schema,
		"issued": int64(s.Issued), "from": int64(s.From), "until": int64(s.Until), "not_before": int64(newest),
		"height": int64(now), "valid": s.ValidAt(now),
	}
}
