package statement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Attributes are the nested map of what a statement says. Values are bool, int64 within MaxInt, string, []any and
// map[string]any; decimals are written as strings. There are no floats and no null.
type Attributes map[string]any

const (
	// MaxInt bounds integers, so that every JSON reader keeps them exact (RFC 8259 section 6).
	MaxInt = 1<<53 - 1
	// MaxDepth bounds the nesting of attributes.
	MaxDepth = 6
	// MaxPaths bounds the names outside lists, hence the index entries of one statement.
	MaxPaths = 64
	// MaxValues bounds all names and list elements: room for an event with a hundred outcomes.
	MaxValues = 512
	// MaxName bounds an attribute's name.
	MaxName = 64
	// MaxText bounds a string value.
	MaxText = 4096
)

// nameForm keeps names usable in paths ("rating.quality") and, without a dash, in CEL as they are.
var nameForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)

// check refuses values out of the data model or bounds.
func (a Attributes) check() error {
	c := checker{paths: MaxPaths, values: MaxValues}
	return c.value("", map[string]any(a), MaxDepth, false)
}

// checker counts down what is still allowed.
type checker struct{ paths, values int }

// take accounts for a name or a list element.
func (c *checker) take(inList bool) error {
	c.values--
	if !inList {
		c.paths--
	}
	if c.values < 0 || c.paths < 0 {
		return fmt.Errorf("%w: more than %d attributes, or more than %d with what is in lists", ErrFormat, MaxPaths, MaxValues)
	}
	return nil
}

func (c *checker) value(path string, v any, depth int, inList bool) error {
	if depth < 0 {
		return fmt.Errorf("%w: attribute %s is nested deeper than %d", ErrFormat, clip(path), MaxDepth)
	}
	switch v := v.(type) {
	case bool:
	case int64:
		if v > MaxInt || v < -MaxInt {
			return fmt.Errorf("%w: attribute %s: %d is beyond 2^53-1; write it as a string", ErrFormat, clip(path), v)
		}
	case string:
		if len(v) > MaxText || !utf8.ValidString(v) {
			return fmt.Errorf("%w: attribute %s: want UTF-8 text of at most %d bytes", ErrFormat, clip(path), MaxText)
		}
	case []any:
		for _, e := range v {
			if err := c.take(true); err != nil {
				return err
			}
			if err := c.value(path+"[]", e, depth-1, true); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if err := c.take(inList); err != nil {
				return err
			}
			if !nameForm.MatchString(name) {
				return fmt.Errorf("%w: attribute name %q: want letters, digits, _ and -, not starting with a digit, at most %d", ErrFormat, clip(name), MaxName)
			}
			if err := c.value(join(path, name), v[name], depth-1, inList); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%w: attribute %s is of type %T: only text, whole numbers, true/false, lists and maps are allowed (decimals as text)", ErrFormat, clip(path), v)
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// Paths lists the paths of all attributes ("rating", "rating.quality"), sorted. Lists are not entered.
func (a Attributes) Paths() []string {
	var out []string
	var walk func(string, map[string]any)
	walk = func(path string, m map[string]any) {
		for name, v := range m {
			p := join(path, name)
			out = append(out, p)
			if sub, ok := v.(map[string]any); ok {
				walk(p, sub)
			}
		}
	}
	walk("", a)
	slices.Sort(out)
	return out
}

// Get returns the value at a path, or nil.
func (a Attributes) Get(path string) any {
	var v any = map[string]any(a)
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// Assign adds what "path=value" says: Assign("rating.quality=5"). A value that is a whole number, true, false, a quoted
// string, or a JSON list or map is taken as that; everything else, decimals included, is text. Giving a path twice,
// or one inside a plain value, is an error.
func (a Attributes) Assign(expr string) error {
	path, text, ok := strings.Cut(expr, "=")
	if !ok || path == "" {
		return fmt.Errorf("%w: %q: want path=value, for example rating.quality=5", ErrFormat, clip(expr))
	}
	v, err := parseValue(text)
	if err != nil {
		return err
	}
	m := map[string]any(a)
	names := strings.Split(path, ".")
	if len(names) > MaxDepth {
		return fmt.Errorf("%w: attribute %s is nested deeper than %d", ErrFormat, clip(path), MaxDepth)
	}
	for i, name := range names {
		if !nameForm.MatchString(name) {
			return fmt.Errorf("%w: attribute name %q in %q: want letters, digits, _ and -, not starting with a digit", ErrFormat, clip(name), clip(path))
		}
		old, there := m[name]
		if i == len(names)-1 {
			if there {
				return fmt.Errorf("%w: attribute %s is given twice", ErrFormat, clip(path))
			}
			m[name] = v
			break
		}
		if !there {
			old = map[string]any{}
			m[name] = old
		}
		if m, ok = old.(map[string]any); !ok {
			return fmt.Errorf("%w: attribute %s has a value already and can't hold %s", ErrFormat, strings.Join(names[:i+1], "."), clip(path))
		}
	}
	return a.check()
}

func parseValue(s string) (any, error) {
	switch s {
	case "true", "false":
		return s == "true", nil
	case "":
		return "", nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n <= MaxInt && n >= -MaxInt && strconv.FormatInt(n, 10) == s {
		return n, nil
	}
	if strings.ContainsRune("\"[{", rune(s[0])) {
		return decodeJSONValue([]byte(s))
	}
	return s, nil
}

// decodeJSONValue reads one JSON value into the data model.
func decodeJSONValue(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %q is no JSON: %w", ErrFormat, clip(string(b)), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: more behind the JSON value in %q", ErrFormat, clip(string(b)))
	}
	return fromJSON(v)
}

// fromJSON turns json.Number into int64 and refuses what the data model lacks.
func fromJSON(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		n, err := strconv.ParseInt(v.String(), 10, 64)
		if err != nil || n > MaxInt || n < -MaxInt {
			return nil, fmt.Errorf("%w: number %s: only whole numbers up to 2^53-1 are allowed; write others as text, \"%s\"", ErrFormat, clip(v.String()), clip(v.String()))
		}
		return n, nil
	case []any:
		for i := range v {
			if v[i], err = fromJSON(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = fromJSON(v[k]); err != nil {
				return nil, err
			}
		}
	case nil:
		return nil, fmt.Errorf("%w: null is not allowed; leave the attribute out", ErrFormat)
	}
	return v, nil
}

// UnmarshalJSON reads the JSON view.
func (a *Attributes) UnmarshalJSON(b []byte) error {
	v, err := decodeJSONValue(b)
	if err != nil {
		return err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%w: attributes must be a JSON object", ErrFormat)
	}
	*a = m
	return a.check()
}
