package htlc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/address/v2/bech32"

	"github.com/eschaton-network/chand/types"
)

// Tags of fields, as the values of their bech32 letters (BOLT 11). k, w and z are ours. z is not BOLT 11's r, whose channels have
// names of 8 bytes, fees of 4 and deltas of 2, too small for ours; decoders skip what they don't know.
const (
	tagHash        = 1  // p
	tagHints       = 2  // z: one way, as many hops as fit
	tagFeatures    = 5  // 9
	tagExpiry      = 6  // x
	tagDescription = 13 // d
	tagPaths       = 14 // w: blinded paths; what stands in several such fields is read as one
	tagSecret      = 16 // s
	tagPayee       = 19 // n
	tagOnionKey    = 22 // k
	tagDescHash    = 23 // h
	tagFinalDelta  = 24 // c
)

// Feature bits (BOLT 9). Even ones must be understood by the reader, odd ones need not.
const (
	featureOnion    = 8  // variable_length_onion
	featureSecret   = 14 // payment_secret
	featureParts    = 16 // basic_mpp
	featuresAlways  = 1<<featureOnion | 1<<featureSecret
	maxFieldWords   = 1<<10 - 1
	maxFieldBytes   = maxFieldWords * 5 / 8
	hintSize        = 33 + len(ShortID{}) + 8 + 4 + 4 + 4 + 8 + 32
	pathHeadSize    = 33 + termsSize + 4 + 8 + 8 + 1
	blindedHopSize  = 32 + BlindedSize
	onceTags        = 1<<tagHash | 1<<tagFeatures | 1<<tagExpiry | 1<<tagDescription | 1<<tagSecret | 1<<tagPayee | 1<<tagOnionKey | 1<<tagDescHash | 1<<tagFinalDelta
	mandatoryTags   = 1<<tagHash | 1<<tagSecret | 1<<tagFeatures
	descriptionTags = 1<<tagDescription | 1<<tagDescHash
)

// words are the data part without the signature.
func (p *PaymentRequest) words() []byte {
	w := appendNumber(nil, uint64(p.Created), timeWords)
	field := func(tag byte, data []byte) {
		w = append(w, tag, byte(len(data)>>5), byte(len(data)&31))
		w = append(w, data...)
	}
	field(tagHash, toWords(p.Hash[:]))
	field(tagSecret, toWords(p.Secret[:]))
	if p.DescriptionHash.IsZero() {
		field(tagDescription, toWords([]byte(p.Description)))
	} else {
		field(tagDescHash, toWords(p.DescriptionHash[:]))
	}
	field(tagPayee, toWords(p.Payee[:]))
	field(tagExpiry, appendNumber(nil, uint64(p.Seconds), 0))
	field(tagFinalDelta, appendNumber(nil, uint64(p.FinalDelta), 0))
	features := uint64(featuresAlways)
	if p.MultiPart {
		features |= 1 << (featureParts + 1)
	}
	field(tagFeatures, appendNumber(nil, features, 0))
	if !p.OnionKey.IsZero() {
		field(tagOnionKey, toWords(p.OnionKey[:]))
	}
	for _, path := range p.Hints {
		var b []byte
		for i := range path {
			b = path[i].append(b)
		}
		field(tagHints, toWords(b))
	}
	var paths []byte
	for i := range p.Paths {
		paths = p.Paths[i].append(paths)
	}
	for len(paths) > 0 {
		n := min(len(paths), maxFieldBytes)
		field(tagPaths, toWords(paths[:n]))
		paths = paths[n:]
	}
	return w
}

// readFields reads what words writes, in any order, and skips what it does not know.
func (p *PaymentRequest) readFields(w []byte) error {
	p.Seconds, p.FinalDelta = defaultSeconds, defaultFinalDelta
	var have uint32
	var paths []byte
	for len(w) > 0 {
		if len(w) < 3 || len(w)-3 < int(w[1])<<5|int(w[2]) {
			return errors.New("a field is cut off")
		}
		tag, n := w[0], int(w[1])<<5|int(w[2])
		data := w[3 : 3+n]
		w = w[3+n:]
		if have&(1<<tag)&onceTags != 0 {
			return fmt.Errorf("field %d stands there twice", tag)
		}
		have |= 1 << tag
		var err error
		if tag == tagPaths {
			var b []byte
			if b, err = toBytes(data); len(paths)+len(b) > MaxPaths*(pathHeadSize+MaxBlindedHops*blindedHopSize) {
				return fmt.Errorf("blinded paths of %d bytes and more", len(paths)+len(b))
			}
			paths = append(paths, b...)
		} else {
			err = p.readField(tag, data)
		}
		if err != nil {
			return fmt.Errorf("field %d: %w", tag, err)
		}
	}
	if have&mandatoryTags != mandatoryTags || have&descriptionTags == 0 || have&descriptionTags == descriptionTags {
		return errors.New("hash, secret or features are missing, or there is not just one of description and its hash")
	}
	return p.readPaths(paths)
}

func (p *PaymentRequest) readField(tag byte, data []byte) (err error) {
	switch tag {
	case tagHash:
		return fixedBytes(p.Hash[:], data)
	case tagSecret:
		return fixedBytes(p.Secret[:], data)
	case tagPayee:
		return fixedBytes(p.Payee[:], data)
	case tagOnionKey:
		return fixedBytes(p.OnionKey[:], data)
	case tagDescHash:
		if err = fixedBytes(p.DescriptionHash[:], data); err == nil && p.DescriptionHash.IsZero() {
			err = errors.New("zero is no hash")
		}
	case tagDescription:
		var b []byte
		b, err = toBytes(data)
		p.Description = string(b)
	case tagExpiry:
		p.Seconds, err = shortNumber(data)
	case tagFinalDelta:
		p.FinalDelta, err = shortNumber(data)
	case tagFeatures:
		return p.readFeatures(data)
	case tagHints:
		var b []byte
		if b, err = toBytes(data); err != nil {
			return err
		}
		if len(b) == 0 || len(b)%hintSize != 0 || len(p.Hints) == MaxHints {
			return fmt.Errorf("route hint of %d bytes: want a multiple of %d, at most %d times", len(b), hintSize, MaxHints)
		}
		var path []RouteHint
		for ; len(b) > 0; b = b[hintSize:] {
			path = append(path, readHint(b))
		}
		p.Hints = append(p.Hints, path)
	}
	return err
}

// readFeatures wants the bits that this code relies on, and no other one that would have to be understood.
func (p *PaymentRequest) readFeatures(data []byte) error {
	bit := func(i int) bool {
		at := len(data) - 1 - i/5
		return at >= 0 && data[at]>>(i%5)&1 != 0
	}
	if len(data) > 0 && data[0] == 0 {
		return errors.New("not in its shortest form")
	}
	if !bit(featureOnion) && !bit(featureOnion+1) || !bit(featureSecret) && !bit(featureSecret+1) {
		return errors.New("the features lack the variable onion or the payment secret")
	}
	for i := 0; i < len(data)*5; i += 2 {
		if bit(i) && i != featureOnion && i != featureSecret && i != featureParts {
			return fmt.Errorf("unknown feature %d must be understood", i)
		}
	}
	p.MultiPart = bit(featureParts) || bit(featureParts+1)
	return nil
}

func (h *RouteHint) append(b []byte) []byte {
	b = append(append(b, h.Node[:]...), h.Channel[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Base))
	b = binary.BigEndian.AppendUint32(b, h.PPM)
	b = binary.BigEndian.AppendUint32(b, h.Delta)
	b = binary.BigEndian.AppendUint32(b, h.Reserve)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Max))
	return append(b, h.OnionKey[:]...)
}

func readHint(b []byte) (h RouteHint) {
	b = b[copy(h.Node[:], b):]
	b = b[copy(h.Channel[:], b):]
	h.Base, h.PPM, h.Delta = types.Amount(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	h.Reserve, h.Max = binary.BigEndian.Uint32(b[16:]), types.Amount(binary.BigEndian.Uint64(b[20:]))
	copy(h.OnionKey[:], b[28:])
	return h
}

// append writes entry(33) base(8) millionths(4) delta(4) reserve(4) min(8) max(8) hops(1), then key(32) data(125) for each hop.
func (p *BlindedPath) append(b []byte) []byte {
	b = p.Terms.append(append(b, p.Entry[:]...))
	b = binary.BigEndian.AppendUint32(b, p.Reserve)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Min))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Max))
	b = append(b, byte(len(p.Hops)))
	for i := range p.Hops {
		b = append(append(b, p.Hops[i].Key[:]...), p.Hops[i].Data[:]...)
	}
	return b
}

func (p *PaymentRequest) readPaths(b []byte) error {
	for len(b) > 0 {
		if len(b) < pathHeadSize || len(p.Paths) == MaxPaths {
			return fmt.Errorf("a blinded path is cut off, or there are more than %d", MaxPaths)
		}
		var path BlindedPath
		b = b[copy(path.Entry[:], b):]
		path.Terms, b = readTerms(b), b[termsSize:]
		path.Reserve, path.Min, path.Max = binary.BigEndian.Uint32(b), types.Amount(binary.BigEndian.Uint64(b[4:])), types.Amount(binary.BigEndian.Uint64(b[12:]))
		n := int(b[20])
		if b = b[21:]; n > MaxBlindedHops || len(b) < n*blindedHopSize {
			return fmt.Errorf("blinded path of %d hops with %d bytes left", n, len(b))
		}
		for range n {
			var h BlindedHop
			b = b[copy(h.Key[:], b):]
			b = b[copy(h.Data[:], b):]
			path.Hops = append(path.Hops, h)
		}
		p.Paths = append(p.Paths, path)
	}
	return nil
}

// toBytes wants spare bits to be zero, and fewer than five.
func toBytes(words []byte) ([]byte, error) { return bech32.ConvertBits(words, 5, 8, false) }

func fixedBytes(to, words []byte) error {
	b, err := toBytes(words)
	if err == nil && len(b) != len(to) {
		err = fmt.Errorf("%d bytes, want %d", len(b), len(to))
	}
	copy(to, b)
	return err
}

// shortNumber wants no leading zeros, and 32 bits at most.
func shortNumber(words []byte) (uint32, error) {
	n := number(words)
	if len(words) > 0 && words[0] == 0 || n > 1<<32-1 {
		return 0, errors.New("a number is too large, or not in its shortest form")
	}
	return uint32(n), nil
}

func toWords(b []byte) []byte {
	w, err := bech32.ConvertBits(b, 8, 5, true)
	if err != nil {
		panic(err) // 8-bit groups always convert
	}
	return w
}

// appendNumber writes big-endian words; size 0 means as few as needed, and none for zero.
func appendNumber(w []byte, n uint64, size int) []byte {
	if size == 0 {
		for m := n; m > 0; m >>= 5 {
			size++
		}
	}
	for i := size - 1; i >= 0; i-- {
		w = append(w, byte(n>>(5*i))&31)
	}
	return w
}

// number reads big-endian words; what exceeds 64 bits is cut to the largest number.
func number(w []byte) (n uint64) {
	for _, v := range w {
		if n >= 1<<59 {
			return 1<<64 - 1
		}
		n = n<<5 | uint64(v)
	}
	return n
}
