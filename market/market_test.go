package market

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

func TestParsePrice(t *testing.T) {
	for in, want := range map[string]Price{
		"3/request":           {3 * types.Coin, Request},
		"0.01/request":        {10_000_000, Request},
		"0.000000001/byte":    {1, Byte},
		"7/second":            {7 * types.Coin, Second},
		"4611686018/event":    {4611686018 * types.Coin, Event},
		"0.5/request":         {types.Coin / 2, Request},
		"1000000.5/request":   {1000000*types.Coin + types.Coin/2, Request},
		"0.100000000/request": {types.Coin / 10, Request},
	} {
		if got, err := ParsePrice(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "3", "/request", "3/", "0/request", "-1/request", "+1/request", "3 /request", "3/Request", "3/requests",
		"3/request/", "1e3/request", "0.0000000001/request", "4611686019/request", "99999999999999999999/request", "3,5/request"} {
		if p, err := ParsePrice(bad); !errors.Is(err, ErrPrice) {
			t.Errorf("%q: %v, %v", bad, p, err)
		}
	}
}

func TestPriceFor(t *testing.T) {
	p := Price{3 * types.Coin, Request}
	if a, err := p.For(10); err != nil || a != 30*types.Coin {
		t.Errorf("%v, %v", a, err)
	}
	if _, err := (Price{types.MaxAmount, Request}).For(2); !errors.Is(err, ErrPrice) {
		t.Errorf("overflow: %v", err)
	}
}

func FuzzParsePrice(f *testing.F) {
	f.Add("3/request")
	f.Add("0.01/second")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePrice(s)
		if err != nil {
			return
		}
		again, err := ParsePrice(p.String())
		if err != nil || again != p {
			t.Fatalf("%q -> %v -> %v, %v", s, p, again, err)
		}
	})
}

func provider(t *testing.T) types.NodeID {
	t.Helper()
	return types.Seed{1}.NodeID()
}

func TestOffer(t *testing.T) {
	good := Offer{"echo", provider(t), "http://127.0.0.1:80/echo/", Price{types.Coin, Request}, "says it again"}
	if got, err := ParseOffer(good.Attributes()); err != nil || got != good {
		t.Fatalf("%+v, %v", got, err)
	}
	for what, change := range map[string]func(*Offer){
		"capital": func(o *Offer) { o.Name = "Echo" }, "slash": func(o *Offer) { o.Name = "a/b" }, "comma": func(o *Offer) { o.Name = "a,b" },
		"empty": func(o *Offer) { o.Name = "" }, "hyphen": func(o *Offer) { o.Name = "-a" }, "long": func(o *Offer) { o.Name = strings.Repeat("a", 64) },
		"provider": func(o *Offer) { o.Provider = types.NodeID{} }, "address": func(o *Offer) { o.URL = "ftp://x" },
		"price": func(o *Offer) { o.Price.Amount = 0 }, "unit": func(o *Offer) { o.Price.Unit = "mile" },
		"description": func(o *Offer) { o.Description = strings.Repeat("x", MaxDescription+1) },
	} {
		o := good
		change(&o)
		if err := o.Check(); err == nil {
			t.Errorf("%s: accepted %+v", what, o)
		}
		if _, err := ParseOffer(o.Attributes()); err == nil {
			t.Errorf("%s: parsed %+v", what, o)
		}
	}
	for _, m := range []map[string]any{nil, {"type": offerType}, {"type": 1}, {"type": offerType, "payment": "L402", "price": "3"}} {
		if _, err := ParseOffer(m); !errors.Is(err, ErrOffer) {
			t.Errorf("%v: %v", m, err)
		}
	}
}

// Whatever is used and given back, a credit never serves more than was bought.
func TestCreditNeverServesMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Credit{Limit: rapid.Uint32Range(0, 5).Draw(t, "limit"), Paid: 1, Until: 2}
		served := 0
		for _, use := range rapid.SliceOf(rapid.Bool()).Draw(t, "uses") {
			next, err := c.Refund()
			if use {
				next, err = c.Use()
			}
			switch {
			case err == nil && use:
				served++
			case err == nil:
				served--
			case use && !errors.Is(err, ErrUsedUp), !use && !errors.Is(err, ErrCredit), next != c:
				t.Fatalf("%+v, %v", next, err)
			}
			c = next
			if served < 0 || served > int(c.Limit) || served != int(c.Used) || c.Left() != c.Limit-uint32(served) {
				t.Fatalf("%d served of %+v", served, c)
			}
			again, err := DecodeCredit(c.Encode())
			if err != nil || again != c {
				t.Fatalf("%+v, %v", again, err)
			}
		}
	})
}

func FuzzDecodeCredit(f *testing.F) {
	f.Add(Credit{Limit: 3, Used: 1, Paid: 5, Until: 9}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCredit(b)
		if err == nil && !bytes.Equal(c.Encode(), b) {
			t.Fatalf("%x is not canonical", b)
		}
	})
}
