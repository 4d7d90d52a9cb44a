package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// row is one figure. Ratio is 1 at the limit and smaller below it, for rates and for times alike. A batch can beat a limit
// that counts single operations; the ratio is above 1 then.
type row struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Limit float64 `json:"limit"`
	Ratio float64 `json:"ratio"`
	// binds says what the limit is, for people.
	binds string
}

// rate adds a figure per second.
func (b *bench) rate(name string, value float64, l limit) {
	b.rows = append(b.rows, row{name, round(value), "1/s", round(l.value), round(value / l.value), l.name})
}

// cost adds a figure that is the better the smaller it is.
func (b *bench) cost(name string, value float64, unit string, l limit) {
	b.rows = append(b.rows, row{name, round(value), unit, round(l.value), round(l.value / value), l.name})
}

// round keeps four significant digits: more would be noise.
func round(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0
	}
	p := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*p) / p
}

func writeJSON(w io.Writer, rows []row) error {
	e := json.NewEncoder(w)
	for _, r := range rows {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func writeTable(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "name\tvalue\tunit\tlimit\tratio\t  binds\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t  %s\t\n", r.Name, number(r.Value), r.Unit, number(r.Limit), number(r.Ratio), r.binds)
	}
	return t.Flush()
}

func number(x float64) string {
	if math.Abs(x) >= 1000 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.4g", x)
}
