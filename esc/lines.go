package esc

import "bytes"

// Lines joins the lines of the input to commands: one a line, or going on over several where a line ends within an object. A line
// that can't be a continuation starts a new command, so that one broken command does not swallow those after it.
type Lines struct {
	text  []byte
	depth int
}

// Add takes one line and returns the commands that end with it or before it: none, one or two.
func (l *Lines) Add(line []byte) [][]byte {
	line = bytes.Trim(line, " \t\r\n")
	if len(line) == 0 {
		return nil
	}
	var out [][]byte
	if n := len(l.text); n > 0 && line[0] == '{' && !bytes.ContainsRune([]byte(",:["), rune(l.text[n-1])) {
		out = append(out, l.End())
	}
	if len(l.text) > 0 {
		l.text = append(l.text, '\n')
	}
	if len(l.text)+len(line) > MaxCommand+1 { // Decode refuses it by its length
		l.text = append(l.text, line[:max(0, min(len(line), MaxCommand+1-len(l.text)))]...)
		return append(out, l.End())
	}
	l.text = append(l.text, line...)
	if whole := l.scan(line); whole {
		out = append(out, l.End())
	}
	return out
}

// End returns what was begun and not ended, nil when nothing was, and starts anew.
func (l *Lines) End() []byte {
	text := l.text
	l.text, l.depth = nil, 0
	return text
}

// scan follows the nesting through a line and tells whether the command ends with it. A string that the line leaves open can't be
// continued.
func (l *Lines) scan(line []byte) (whole bool) {
	inString := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			l.depth++
		case c == '}' || c == ']':
			l.depth--
		}
	}
	return inString || l.depth <= 0
}
