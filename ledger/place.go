package ledger

import (
	"fmt"
	"regexp"
	"strconv"
)

// placeForm: positions beyond FFFF, which only direct transactions can have, take more digits.
var placeForm = regexp.MustCompile(`^([0-9A-Fa-f]{4})([-:]?)([0-9A-Fa-f]{8})([-:]?)([0-9A-Fa-f]{4,8})$`)

// ParsePlace reads a place as String writes it, NNNN:MMMMMMMM:PPPP in hex, and in the original's older forms: NNNN-MMMMMMMM-PPPP
// and 16 digits without separators (E17).
func ParsePlace(s string) (Place, error) {
	p, err := parsePlace(s)
	if err == nil && p.Position == 0 {
		err = fmt.Errorf("place %s: positions count from 1", s)
	}
	return p, err
}

func parsePlace(s string) (Place, error) {
	m := placeForm.FindStringSubmatch(s)
	if m == nil || m[2] != m[4] || m[2] == "" && len(s) != 16 {
		return Place{}, fmt.Errorf("place %.40q: want NNNN:MMMMMMMM:PPPP in hex: node, message, position", s)
	}
	field := func(i int) uint64 {
		v, err := strconv.ParseUint(m[i], 16, 32)
		if err != nil { // the form allows no others
			panic(err)
		}
		return v
	}
	return Place{Node: uint16(field(1)), Msid: uint32(field(3)), Position: uint32(field(5))}, nil
}

// MarshalText writes String's form.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote, also the 0 of a position that is not known.
func (p *Place) UnmarshalText(b []byte) (err error) {
	*p, err = parsePlace(string(b))
	return err
}
