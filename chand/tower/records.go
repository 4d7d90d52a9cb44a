package tower

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

// Buckets of the store.
const (
	BucketWatched = "watched"    // contract id -> watched: what this tower keeps for others
	BucketSale    = "watchsale"  // payment hash -> sale: invoices that were asked for
	BucketTower   = "tower"      // node id -> Tower: the towers that this daemon uses
	BucketGiven   = "towergiven" // node id/contract id -> given: what they have
)

var errRecord = errors.New("a watchtower's record is damaged")

// watched is one contract that a tower watches.
type watched struct {
	// Until is the last block that is paid for.
	Until types.Height `cbor:"1,keyasint"`
	// Epoch and Version are of Refund; zero while there is none.
	Epoch   uint32 `cbor:"2,keyasint,omitempty"`
	Version uint32 `cbor:"3,keyasint,omitempty"`
	Refund  []byte `cbor:"4,keyasint,omitempty"`
	// Client is the node that gave or paid first.
	Client types.NodeID `cbor:"5,keyasint"`
	// Seen is the newest block at which the contract was seen on the ledger.
	Seen types.Height `cbor:"6,keyasint,omitempty"`
	// Acts counts the versions that were published; the newest of them is ActEpoch and ActVersion.
	Acts       uint32 `cbor:"7,keyasint,omitempty"`
	ActEpoch   uint32 `cbor:"8,keyasint,omitempty"`
	ActVersion uint32 `cbor:"9,keyasint,omitempty"`
}

// sale is an invoice for watching, until it is paid or expires.
type sale struct {
	Client   types.NodeID    `cbor:"1,keyasint"`
	Contract types.ChannelID `cbor:"2,keyasint"`
	Blocks   uint32          `cbor:"3,keyasint"`
	Expires  types.Time      `cbor:"4,keyasint"`
}

// Tower is one that this daemon uses.
type Tower struct {
	Node  types.NodeID `cbor:"1,keyasint"`
	Addr  string       `cbor:"2,keyasint"`
	Added types.Time   `cbor:"3,keyasint"`
	// MaxPrice is the most to pay for watching one channel for a thousand blocks.
	MaxPrice types.Amount `cbor:"4,keyasint,omitempty"`
}

// given is what a tower has of one channel.
type given struct {
	Epoch   uint32       `cbor:"1,keyasint,omitempty"`
	Version uint32       `cbor:"2,keyasint,omitempty"`
	Until   types.Height `cbor:"3,keyasint,omitempty"`
	// Invoice is being paid: until its end is known no other is asked for.
	Invoice string `cbor:"4,keyasint,omitempty"`
	// Bought is the last block that was paid for by our own count, whatever the tower says.
	Bought types.Height `cbor:"5,keyasint,omitempty"`
	// Wait is the first block at which another invoice is asked for after one that could not be paid.
	Wait types.Height `cbor:"6,keyasint,omitempty"`
}

func givenKey(node types.NodeID, contract types.ChannelID) string {
	return node.String() + "/" + contract.String()
}

// put makes a write. Records hold plain types only, so that encoding can't fail.
func put(bucket, key string, record any) types.Write {
	b, err := statement.EncodeCBOR(record)
	if err != nil {
		panic(fmt.Sprintf("record %T: %v", record, err))
	}
	return types.Write{Bucket: bucket, Key: key, Value: b}
}

func del(bucket, key string) types.Write { return types.Write{Bucket: bucket, Key: key} }

// each reads every record of a bucket; parse turns its key into what it names.
func each[K comparable, T any](s Reader, bucket string, parse func(string) (K, error), fn func(K, T) error) error {
	return s.Scan(bucket, "", func(key string, raw []byte) error {
		var v T
		k, err := parse(key)
		if err == nil {
			err = statement.DecodeCBOR(raw, &v)
		}
		if err != nil {
			return fmt.Errorf("%w: %s/%s: %w", errRecord, bucket, key, err)
		}
		return fn(k, v)
	})
}

type givenTo struct {
	node     types.NodeID
	contract types.ChannelID
}

func parseGivenKey(key string) (k givenTo, err error) {
	a, b, _ := strings.Cut(key, "/")
	if k.node, err = types.ParseNodeID(a); err == nil {
		k.contract, err = types.ParseHash(b)
	}
	return k, err
}

// Check reads everything that this package has stored.
func Check(s Reader) error {
	return errors.Join(
		each(s, BucketWatched, types.ParseHash, func(id types.ChannelID, w watched) error {
			if (len(w.Refund) == 0) != (w.Version == 0) {
				return fmt.Errorf("%w: %s: version %d with a refund of %d bytes", errRecord, id, w.Version, len(w.Refund))
			}
			return nil
		}),
		each(s, BucketSale, types.ParseHash, func(types.Hash, sale) error { return nil }),
		each(s, BucketTower, types.ParseNodeID, func(id types.NodeID, t Tower) error {
			if t.Node != id {
				return fmt.Errorf("%w: tower %s stands under %s", errRecord, t.Node, id)
			}
			return nil
		}),
		each(s, BucketGiven, parseGivenKey, func(givenTo, given) error { return nil }),
	)
}
