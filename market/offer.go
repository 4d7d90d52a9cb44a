package market

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/types"
)

// Bounds of an offer. It travels as a statement, whose size is bounded too.
const (
	// MaxName is the length of a DNS label: a name may become a host name.
	MaxName        = 63
	MaxDescription = 512
	MaxURL         = 512
)

// ErrOffer is wrapped by every error about an offer.
var ErrOffer = errors.New("not a valid offer")

// Offer says what one can buy from whom, where and for how much. It is published as the attributes of a statement.
type Offer struct {
	// Name is lower-case letters, digits and hyphens.
	Name     string
	Provider types.NodeID
	// URL is where the gateway sells it. Payment is L402 over the provider's invoices.
	URL         string
	Price       Price
	Description string
}

// Check wants every field within its bounds.
func (o Offer) Check() error {
	if err := CheckName(o.Name); err != nil {
		return err
	}
	switch {
	case o.Provider.IsZero():
		return fmt.Errorf("%w: no provider", ErrOffer)
	case len(o.URL) > MaxURL || !strings.HasPrefix(o.URL, "http://") && !strings.HasPrefix(o.URL, "https://"):
		return fmt.Errorf("%w: the address %.80q is not http:// or https:// within %d bytes", ErrOffer, o.URL, MaxURL)
	case len(o.Description) > MaxDescription:
		return fmt.Errorf("%w: the description has %d bytes, want at most %d", ErrOffer, len(o.Description), MaxDescription)
	}
	return o.Price.Check()
}

// CheckName wants a name that is a path segment, a caveat value and a DNS label at once.
func CheckName(name string) error {
	ok := name != "" && len(name) <= MaxName && name[0] != '-' && name[len(name)-1] != '-'
	for _, c := range name {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%w: the name %.80q: want lower-case letters, digits and inner hyphens, at most %d", ErrOffer, name, MaxName)
	}
	return nil
}

// offerType marks statements that are offers, with the version of their form.
const offerType = "chand/service/1"

// Attributes returns the offer as attributes of a statement.
func (o Offer) Attributes() map[string]any {
	m := map[string]any{
		"type": offerType, "name": o.Name, "provider": o.Provider.String(), "url": o.URL, "payment": "L402",
		"price": map[string]any{"amount": o.Price.Amount.String(), "unit": string(o.Price.Unit)},
	}
	if o.Description != "" {
		m["description"] = o.Description
	}
	return m
}

// ParseOffer reads what Attributes wrote. Unknown attributes are let pass: offers may say more than we use.
func ParseOffer(m map[string]any) (Offer, error) {
	var o Offer
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	if text(m, "type") != offerType || text(m, "payment") != "L402" {
		return o, fmt.Errorf("%w: its type is not %s, or its payment not L402", ErrOffer, offerType)
	}
	price, _ := m["price"].(map[string]any)
	amount, err := types.ParseAmount(text(price, "amount"))
	if err != nil {
		return o, fmt.Errorf("%w: price: %w", ErrOffer, err)
	}
	provider, err := types.ParseNodeID(text(m, "provider"))
	if err != nil {
		return o, fmt.Errorf("%w: provider: %w", ErrOffer, err)
	}
	o = Offer{text(m, "name"), provider, text(m, "url"), Price{amount, Unit(text(price, "unit"))}, text(m, "description")}
	return o, o.Check()
}
