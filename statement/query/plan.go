package query

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/eschaton-network/chand/statement"
)

// maxPlanKeys bounds a union of index keys; a longer "or" is answered by a scan.
const maxPlanKeys = 32

// plan returns index keys of which at least one is carried by every statement that the expression can match, or nil.
// Both sides of && must be true for a match, so either side's keys do; with || the union of both.
func plan(e ast.Expr) []string {
	if e.Kind() == ast.ComprehensionKind {
		return existsKey(e.AsComprehension())
	}
	if e.Kind() == ast.SelectKind { // attributes.flag, has(attributes.rating)
		return attributePath(e)
	}
	if e.Kind() != ast.CallKind {
		return nil
	}
	call := e.AsCall()
	args := call.Args()
	if call.IsMemberFunction() { // attributes.name.startsWith("a"): nothing matches where it is missing
		return attributeKey(call.Target())
	}
	if len(args) != 2 {
		return nil
	}
	switch call.FunctionName() {
	case operators.LogicalAnd:
		return better(plan(args[0]), plan(args[1]))
	case operators.LogicalOr:
		a, b := plan(args[0]), plan(args[1])
		if a == nil || b == nil || len(a)+len(b) > maxPlanKeys {
			return nil
		}
		both := append(slices.Clone(a), b...)
		slices.Sort(both)
		return slices.Compact(both)
	case operators.Equals:
		if k := better(equalsKey(args[0], args[1]), equalsKey(args[1], args[0])); k != nil {
			return k
		}
		return either(args)
	case operators.In:
		return inKeys(args[0], args[1])
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals, operators.NotEquals, "glob":
		return either(args)
	}
	return nil
}

// either returns the attribute key of one of the operands: a comparison with a missing attribute never matches.
func either(args []ast.Expr) []string {
	return better(attributeKey(args[0]), attributeKey(args[1]))
}

// better prefers what selects less: few keys, and issuers or subjects before attributes.
func better(a, b []string) []string {
	weight := func(keys []string) int {
		if keys == nil {
			return 1 << 20
		}
		w := len(keys)
		if keys[0][0] == 'a' { // an attribute's path is shared by many
			w += 1 << 10
		}
		return w
	}
	if weight(b) < weight(a) {
		return b
	}
	return a
}

func isIdent(e ast.Expr, name string) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == name }

func text(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// equalsKey is for issuer == "…" and subject == "…".
func equalsKey(name, value ast.Expr) []string {
	v, ok := text(value)
	switch {
	case !ok:
		return nil
	case isIdent(name, "issuer"):
		k, err := statement.ParseKey(v)
		if err != nil {
			return nil
		}
		return []string{statement.IssuerKey(k)}
	case isIdent(name, "subject"):
		return []string{statement.SubjectKey(v)}
	}
	return nil
}

// inKeys is for "…" in subjects and issuer in ["…", "…"], subject in [...].
func inKeys(item, list ast.Expr) []string {
	if v, ok := text(item); ok && isIdent(list, "subjects") {
		return []string{statement.SubjectKey(v)}
	}
	if list.Kind() != ast.ListKind || list.AsList().Size() == 0 || list.AsList().Size() > maxPlanKeys {
		return nil
	}
	var keys []string
	for _, e := range list.AsList().Elements() {
		k := equalsKey(item, e)
		if k == nil {
			return attributeKey(item)
		}
		keys = append(keys, k...)
	}
	return keys
}

// existsKey is for subjects.exists(s, s == "…").
func existsKey(c ast.ComprehensionExpr) []string {
	step, ok := existsStep(c)
	if !ok {
		return nil
	}
	var keys func(e ast.Expr) []string
	keys = func(e ast.Expr) []string {
		if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 {
			return nil
		}
		a := e.AsCall().Args()
		switch e.AsCall().FunctionName() {
		case operators.LogicalAnd:
			return better(keys(a[0]), keys(a[1]))
		case operators.Equals:
			for i := range a {
				if v, ok := text(a[1-i]); ok && isIdent(a[i], c.IterVar()) {
					return []string{statement.SubjectKey(v)}
				}
			}
		}
		return nil
	}
	return keys(step)
}

// existsStep returns the condition of subjects.exists(var, condition) as the macro expands it.
func existsStep(c ast.ComprehensionExpr) (ast.Expr, bool) {
	init, step := c.AccuInit(), c.LoopStep()
	if !isIdent(c.IterRange(), "subjects") || c.HasIterVar2() || !isIdent(c.Result(), c.AccuVar()) ||
		init.Kind() != ast.LiteralKind || init.AsLiteral() != types.False ||
		step.Kind() != ast.CallKind || step.AsCall().FunctionName() != operators.LogicalOr || !isIdent(step.AsCall().Args()[0], c.AccuVar()) {
		return nil, false
	}
	return step.AsCall().Args()[1], true
}

// attributeKey is for a value that is missing, hence never part of a match, where the attribute is: attributes.a.b,
// attributes["a"].b. The value of has() is false there, not missing.
func attributeKey(e ast.Expr) []string {
	if e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
		return nil
	}
	return attributePath(e)
}

func attributePath(e ast.Expr) []string {
	path := ""
	for {
		name := ""
		switch e.Kind() {
		case ast.SelectKind:
			name, e = e.AsSelect().FieldName(), e.AsSelect().Operand()
		case ast.CallKind:
			c := e.AsCall()
			v, ok := "", false
			if c.FunctionName() == operators.Index && len(c.Args()) == 2 {
				v, ok = text(c.Args()[1])
			}
			if !ok {
				return nil
			}
			name, e = v, c.Args()[0]
		case ast.IdentKind:
			if e.AsIdent() != "attributes" || path == "" {
				return nil
			}
			return []string{statement.AttributeKey(path)}
		default:
			return nil
		}
		if path != "" {
			name += "." + path
		}
		path = name
	}
}

// canonicalise replaces texts that are compared with subjects by their canonical form, so that a bare peer id or
// address finds "peer:…" and "account:…". Other texts stay as they are.
func canonicalise(root ast.Expr) {
	loop := map[string]bool{} // variables that run over subjects
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ComprehensionKind && isIdent(e.AsComprehension().IterRange(), "subjects") {
			loop[e.AsComprehension().IterVar()] = true
		}
	}))
	subject := func(e ast.Expr) bool {
		return e.Kind() == ast.IdentKind && (e.AsIdent() == "subject" || e.AsIdent() == "subjects" || loop[e.AsIdent()])
	}
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 {
			return
		}
		a, f := e.AsCall().Args(), e.AsCall().FunctionName()
		if f != operators.Equals && f != operators.NotEquals && f != operators.In {
			return
		}
		for i := range a {
			if !subject(a[i]) {
				continue
			}
			rewrite(a[1-i])
			if a[1-i].Kind() == ast.ListKind {
				for _, x := range a[1-i].AsList().Elements() {
					rewrite(x)
				}
			}
		}
	}))
}

func rewrite(e ast.Expr) {
	v, ok := text(e)
	if !ok {
		return
	}
	if c, err := statement.ParseSubject(v); err == nil && c != v {
		e.SetKindCase(ast.NewExprFactory().NewLiteral(e.ID(), types.String(c)))
	}
}
