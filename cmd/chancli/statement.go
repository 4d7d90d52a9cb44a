package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) statementCommand() *cobra.Command {
	c := &cobra.Command{Use: "statement", Short: "signed statements about keys, services, files"}
	var r chandv1.PublishStatementRequest
	var set []string
	publish := &cobra.Command{Use: "publish --subject S --set path=value …", Short: "sign a statement and spread it", Args: cobra.NoArgs,
		Long: "Attributes are set by path: --set rating.quality=5 --set rating.text=good. Integers, true and false are what they look like,\n" +
			"everything else is text; \"…\" in double quotes is text always.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			attributes, err := parseAttributes(set)
			if err != nil {
				return err
			}
			if r.Attributes, err = structpb.NewStruct(attributes); err != nil {
				return usage("attributes: %v", err)
			}
			d, err := a.daemon()
			if err != nil {
				return err
			}
			v, err := keyed(&r.IdempotencyKey, func(string) (*chandv1.Statement, error) { return d.Statements.Publish(cmd.Context(), &r) })
			if err != nil {
				return err
			}
			return a.show(v, func() { a.statement(v) })
		}}
	publish.Flags().StringArrayVar(&r.Subjects, "subject", nil, "what it is about: key, peer id, account, hash, statement (may be repeated)")
	publish.Flags().StringArrayVar(&set, "set", nil, "path=value (may be repeated)")
	publish.Flags().Uint32Var(&r.ValidBlocks, "valid-blocks", 0, "how long it holds (0: the daemon's setting)")
	publish.Flags().StringArrayVar(&r.Supersedes, "supersedes", nil, "id of a statement that it replaces")
	publish.Flags().StringArrayVar(&r.Revokes, "revokes", nil, "id of a statement that it takes back")
	publish.Flags().StringVar(&r.Receipt, "receipt", "", "hash of the settled payment that it is about")
	publish.Flags().StringVar(&r.Schema, "schema", "", "hash of its schema")
	_ = publish.MarkFlagRequired("subject") // fails for an unknown flag only
	keyFlag(publish, &r.IdempotencyKey)

	var q chandv1.QueryStatementsRequest
	query := &cobra.Command{Use: "query 'CEL EXPRESSION'", Short: "find statements here, or at a peer", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		q.Expression = args[0]
		v, err := d.Statements.Query(cmd.Context(), &q)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			for i, s := range v.Statements {
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				a.statement(s)
			}
			if len(v.Statements) == 0 {
				fmt.Fprintln(a.out, "no statements match")
			}
			a.more(v.NextPageToken)
		})
	}}
	query.Flags().StringVar(&q.From, "from", "", "ask this peer instead of the own store")
	pageFlags(query, &q.Limit, &q.PageToken)
	c.AddCommand(publish, query)
	return c
}

func (a *app) statement(s *chandv1.Statement) {
	attributes, err := json.Marshal(s.GetAttributes().AsMap())
	if err != nil {
		attributes = []byte(err.Error())
	}
	until := ""
	if s.ValidUntilBlock > 0 {
		until = fmt.Sprintf("block %d, about %s", s.ValidUntilBlock, clock(s.ValidUntil))
	}
	a.pairs("statement", s.Id, "by", s.Issuer, "node", s.IssuerNode, "about", strings.Join(s.Subjects, " "), "says", string(attributes),
		"not before", clock(s.NotBefore), "until", until, "receipt", s.Receipt, "supersedes", strings.Join(s.Supersedes, " "), "revokes", strings.Join(s.Revokes, " "))
}

// Bounds of what --set builds; the daemon has its own.
const (
	maxPathParts = 16
	maxInteger   = 1<<53 - 1
)

// parseAttributes turns path=value pairs into a nested map.
func parseAttributes(set []string) (map[string]any, error) {
	root := map[string]any{}
	for _, s := range set {
		path, text, ok := strings.Cut(s, "=")
		parts := strings.Split(path, ".")
		if !ok || len(parts) > maxPathParts {
			return nil, usage("--set %q: want path=value with at most %d names in the path", s, maxPathParts)
		}
		value, err := parseValue(text)
		if err != nil {
			return nil, usage("--set %q: %v", s, err)
		}
		m := root
		for i, part := range parts {
			if part == "" {
				return nil, usage("--set %q: an empty name in the path", s)
			}
			last := i == len(parts)-1
			next, exists := m[part]
			sub, isMap := next.(map[string]any)
			switch {
			case last && exists, !last && exists && !isMap:
				return nil, usage("--set %q: %s is set already", s, strings.Join(parts[:i+1], "."))
			case last:
				m[part] = value
			case !exists:
				sub = map[string]any{}
				m[part] = sub
			}
			m = sub
		}
	}
	return root, nil
}

func parseValue(s string) (any, error) {
	switch {
	case s == "true" || s == "false":
		return s == "true", nil
	case strings.HasPrefix(s, `"`):
		var text string
		if err := json.Unmarshal([]byte(s), &text); err != nil {
			return nil, fmt.Errorf("a value that begins with a quote must be a JSON string: %w", err)
		}
		return text, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != s { // 007 and +1 are text
		return s, nil
	}
	if math.Abs(float64(n)) > maxInteger {
		return nil, fmt.Errorf("the number is outside +-(2^53-1): write it as text, \"%s\"", s)
	}
	return float64(n), nil // the schema has JSON numbers; exact within the bound
}
