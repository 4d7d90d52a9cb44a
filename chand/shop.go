package chand

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/eschaton-network/chand/chand/library"
	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

const (
	bucketService = "service" // name -> Service
	// maxServices bounds what one daemon sells.
	maxServices = 256
	// maxTarget bounds the address of the server behind a service.
	maxTarget = 2048
)

// Service is something that this daemon sells.
type Service struct {
	Name        string       `cbor:"1,keyasint"`
	Target      string       `cbor:"2,keyasint"` // the HTTP server behind
	Amount      types.Amount `cbor:"3,keyasint"`
	Unit        string       `cbor:"4,keyasint"`
	Description string       `cbor:"5,keyasint,omitempty"`
	URL         string       `cbor:"6,keyasint"`
	Since       types.Time   `cbor:"7,keyasint"`
	// Offer is the statement that offers it.
	Offer types.Hash `cbor:"8,keyasint"`
}

// Price is amount and unit.
func (s Service) Price() market.Price {
	return market.Price{Amount: s.Amount, Unit: market.Unit(s.Unit)}
}

// shop knows what is sold. Safe for concurrent use.
type shop struct {
	mu       sync.Mutex
	services map[string]Service // guarded by mu
}

func newShop(d *Daemon) (*shop, error) {
	s := &shop{services: make(map[string]Service)}
	err := loadAll(d.Store, bucketService, "", func(key string, v Service) error {
		if key != v.Name {
			return fmt.Errorf("service/%s holds %q", key, v.Name)
		}
		s.services[key] = v
		return nil
	})
	return s, err
}

// Sell saves a service and publishes its offer as a statement. The same name again changes its target and price.
func (d *Daemon) Sell(ctx context.Context, name, target string, price market.Price, description, url string) (Service, error) {
	offer := market.Offer{Name: name, Provider: d.ID(), URL: url, Price: price, Description: description}
	if err := offer.Check(); err != nil {
		return Service{}, refuse(CodeInvalid, "correct the offer", "%w", err)
	}
	if len(target) > maxTarget || !strings.HasPrefix(target, "http://") && !strings.HasPrefix(target, "https://") {
		return Service{}, refuse(CodeInvalid, "give the server's address", "the server behind %q must be http:// or https:// in at most %d bytes", name, maxTarget)
	}
	defer d.keys.lock("service/" + name)()
	d.shop.mu.Lock()
	old, change := d.shop.services[name]
	full := !change && len(d.shop.services) >= maxServices
	d.shop.mu.Unlock()
	if full {
		return Service{}, refuse(CodeBusy, "remove one first", "%d services are sold already", maxServices)
	}
	s := Service{Name: name, Target: target, Amount: price.Amount, Unit: string(price.Unit), Description: description, URL: url, Since: d.now(), Offer: old.Offer}
	if !change || old.Amount != s.Amount || old.Unit != s.Unit || old.Description != s.Description || old.URL != s.URL {
		q := library.Draft{Subjects: []string{"peer:" + d.ID().String()}, Attributes: offer.Attributes()}
		if change && d.holds(old.Offer) {
			q.Supersedes = []statement.ID{statement.ID(old.Offer)}
		}
		st, err := d.PublishStatement(ctx, q)
		if err != nil {
			return Service{}, err
		}
		s.Offer = types.Hash(st.ID)
	}
	if err := d.Store.Commit(ctx, put(bucketService, name, s)); err != nil {
		return Service{}, err
	}
	d.shop.mu.Lock()
	d.shop.services[name] = s
	d.shop.mu.Unlock()
	d.emit("service", "sells "+name+" for "+price.String(), s)
	return s, nil
}

// RemoveService ends a sale and takes its offer back.
func (d *Daemon) RemoveService(ctx context.Context, name string) error {
	defer d.keys.lock("service/" + name)()
	d.shop.mu.Lock()
	s, ok := d.shop.services[name]
	d.shop.mu.Unlock()
	if !ok {
		return refuse(CodeNotFound, "see `service list`", "no service %.80q is sold here", name)
	}
	if d.holds(s.Offer) {
		q := library.Draft{Subjects: []string{"peer:" + d.ID().String()}, Revokes: []statement.ID{statement.ID(s.Offer)}}
		if _, err := d.PublishStatement(ctx, q); err != nil {
			return err
		}
	}
	if err := d.Store.Commit(ctx, del(bucketService, name)); err != nil {
		return err
	}
	d.shop.mu.Lock()
	delete(d.shop.services, name)
	d.shop.mu.Unlock()
	return nil
}

// holds tells whether an offer of ours has not ended for good.
func (d *Daemon) holds(offer types.Hash) bool {
	_, err := d.library.Get(statement.ID(offer))
	return err == nil
}

// Services lists what is sold here, by name.
func (d *Daemon) Services() []Service {
	d.shop.mu.Lock()
	defer d.shop.mu.Unlock()
	list := make([]Service, 0, len(d.shop.services))
	for _, s := range d.shop.services {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Offer is an offer heard from anybody, with its statement.
type Offer struct {
	market.Offer
	Statement *statement.Statement
}

// Offers lists the offers in force that this daemon has heard of, its own included. An offer that names a provider whose
// statement key has not been linked is as good as any: paying shows who delivers.
func (d *Daemon) Offers(ctx context.Context) ([]Offer, error) {
	var out []Offer
	token := ""
	for {
		p, err := d.library.Query(ctx, `attributes.type == "chand/service/1"`, 0, token)
		if err != nil {
			return nil, serviceError(err)
		}
		for _, s := range p.Statements {
			if o, err := market.ParseOffer(s.Attributes); err == nil {
				out = append(out, Offer{o, s.Statement})
			}
		}
		if token = p.Next; token == "" {
			return out, nil
		}
	}
}
