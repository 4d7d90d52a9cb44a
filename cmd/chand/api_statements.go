package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/chand/library"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/statement"
)

type statementsAPI struct{ d *chand.Daemon }

func (a statementsAPI) Publish(ctx context.Context, q *chandv1.PublishStatementRequest) (*chandv1.Statement, error) {
	r := library.Draft{ValidBlocks: q.ValidBlocks, IdempotencyKey: q.IdempotencyKey}
	for _, text := range q.Subjects {
		s, err := statement.ParseSubject(text)
		if err != nil {
			return nil, badField("subjects", err)
		}
		r.Subjects = append(r.Subjects, s)
	}
	var err error
	if r.Attributes, err = attributes(q.Attributes.GetFields()); err != nil {
		return nil, badField("attributes", err)
	}
	if r.Supersedes, err = statementIDs("supersedes", q.Supersedes); err != nil {
		return nil, err
	}
	if r.Revokes, err = statementIDs("revokes", q.Revokes); err != nil {
		return nil, err
	}
	if q.Schema != "" {
		if r.Schema, err = parseHash("schema", q.Schema); err != nil {
			return nil, err
		}
	}
	if q.Receipt != "" {
		return nil, badField("receipt", errors.New("a receipt needs the payee's signature, which no command asks for yet: publish the statement without it"))
	}
	s, err := a.d.PublishStatement(ctx, r)
	if err != nil {
		return nil, apiError(err)
	}
	return a.pb(s), nil
}

func statementIDs(name string, list []string) ([]statement.ID, error) {
	var out []statement.ID
	for _, text := range list {
		id, err := statement.ParseID(text)
		if err != nil {
			return nil, badField(name, err)
		}
		out = append(out, id)
	}
	return out, nil
}

func (a statementsAPI) Query(ctx context.Context, q *chandv1.QueryStatementsRequest) (*chandv1.QueryStatementsResponse, error) {
	r := chand.StatementQuery{Expression: q.Expression, Limit: page(q.Limit), Token: q.PageToken}
	if q.From != "" {
		var err error
		if r.From, err = parseNode("from", q.From); err != nil {
			return nil, err
		}
	}
	p, err := a.d.QueryStatements(ctx, r)
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.QueryStatementsResponse{AnsweredBy: p.From.String(), NextPageToken: p.Next}
	for _, s := range p.Statements {
		out.Statements = append(out.Statements, a.pb(s))
	}
	return out, nil
}

func (a statementsAPI) Get(_ context.Context, q *chandv1.GetStatementRequest) (*chandv1.Statement, error) {
	id, err := statement.ParseID(q.Id)
	if err != nil {
		return nil, badField("id", err)
	}
	s, err := a.d.Statement(id)
	if err != nil {
		return nil, apiError(err)
	}
	return a.pb(s), nil
}

func (a statementsAPI) pb(s library.Stored) *chandv1.Statement {
	out := &chandv1.Statement{Id: s.ID.String(), Issuer: s.Issuer.String(), Subjects: s.Subjects, Attributes: pbAttributes(s.Attributes),
		IssuerNode: s.Node.String(), ValidUntilBlock: uint32(s.Until), Raw: s.Bytes()}
	if b := s.NotBefore; b != nil {
		out.NotBeforeBlock, out.NotBefore = uint32(b.Height), pbTime(b.Time)
	}
	if s.Until != 0 {
		out.ValidUntil = pbDeadline(a.d.Deadline(s.Until)).Time
	}
	for _, id := range s.Supersedes {
		out.Supersedes = append(out.Supersedes, id.String())
	}
	for _, id := range s.Revokes {
		out.Revokes = append(out.Revokes, id.String())
	}
	if s.Receipt != nil {
		out.Receipt = s.Receipt.PaymentHash.String()
	}
	out.Schema = hashText(s.Schema)
	return out
}

// attributes reads JSON's values as statements know them: numbers must be integers.
func attributes(fields map[string]*structpb.Value) (statement.Attributes, error) {
	out := statement.Attributes{}
	for k, v := range fields {
		x, err := attribute(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		out[k] = x
	}
	return out, nil
}

func attribute(v *structpb.Value) (any, error) {
	switch v := v.GetKind().(type) {
	case *structpb.Value_BoolValue:
		return v.BoolValue, nil
	case *structpb.Value_StringValue:
		return v.StringValue, nil
	case *structpb.Value_NumberValue:
		if n := v.NumberValue; n == math.Trunc(n) && math.Abs(n) <= statement.MaxInt {
			return int64(n), nil
		}
		return nil, fmt.Errorf("%v is no integer within ±(2^53-1): write decimals as strings", v.NumberValue)
	case *structpb.Value_ListValue:
		list := []any{}
		for _, e := range v.ListValue.GetValues() {
			x, err := attribute(e)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		return list, nil
	case *structpb.Value_StructValue:
		m, err := attributes(v.StructValue.GetFields())
		return map[string]any(m), err
	}
	return nil, errors.New("null says nothing: leave it out")
}

// pbAttributes shows attributes; a value that JSON can't hold does not occur in a statement.
func pbAttributes(a statement.Attributes) *structpb.Struct {
	s, err := structpb.NewStruct(plain(map[string]any(a)).(map[string]any))
	if err != nil {
		return nil
	}
	return s
}

func plain(v any) any {
	switch v := v.(type) {
	case statement.Attributes:
		return plain(map[string]any(v))
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = plain(x)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = plain(x)
		}
		return list
	}
	return v
}
