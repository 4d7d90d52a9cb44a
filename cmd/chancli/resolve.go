package main

import (
	"context"
	"strings"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// Ids of channels, payments and escrows are 64 hex digits. People may give a beginning of at least shortestID characters, or
// the cut form that tables show.
const (
	idLength   = 64
	shortestID = 4
)

// resolve finds the one id that text stands for. Whole ids are not looked up; the daemon judges them.
func resolve(text string, list func() ([]string, error)) (string, error) {
	begin, end, _ := strings.Cut(text, "…")
	if len(text) >= idLength || len(begin) < shortestID {
		return text, nil
	}
	all, err := list()
	if err != nil {
		return "", err
	}
	var found []string
	for _, id := range all {
		if strings.HasPrefix(id, begin) && strings.HasSuffix(id, end) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return "", fail("not_found", "see the list, or give the id whole", "no id here begins with %.70q", text)
	case 1:
		return found[0], nil
	}
	return "", fail("ambiguous", "give more of the id", "%d ids begin with %.70q: %s and %s, for example", len(found), text, found[0], found[1])
}

func (a *app) channelID(ctx context.Context, text string) (string, error) {
	return resolve(text, func() (ids []string, err error) {
		v, err := a.client.Channels.List(ctx, &chandv1.ListChannelsRequest{IncludeClosed: true})
		for _, c := range v.GetChannels() {
			ids = append(ids, c.Id)
		}
		return ids, err
	})
}

// lookedThrough is how many of the newest payments and escrows are looked through for a cut id.
const lookedThrough = 1000

func (a *app) paymentHash(ctx context.Context, text string) (string, error) {
	return resolve(text, func() (ids []string, err error) {
		v, err := a.client.Payments.List(ctx, &chandv1.ListPaymentsRequest{Limit: lookedThrough})
		for _, p := range v.GetPayments() {
			ids = append(ids, p.Hash)
		}
		return ids, err
	})
}

func (a *app) escrowID(ctx context.Context, text string) (string, error) {
	return resolve(text, func() (ids []string, err error) {
		v, err := a.client.Escrows.List(ctx, &chandv1.ListEscrowsRequest{Limit: lookedThrough})
		for _, e := range v.GetEscrows() {
			ids = append(ids, e.Id)
		}
		return ids, err
	})
}
