package main

import (
	"bufio"
	"errors"
	"io"

	"github.com/eschaton-network/chand/esc"
)

// escInput reads lines of stdin; one that is longer than a command may be is cut, so that it is refused and the next ones are read.
type escInput struct {
	from io.Reader
	buf  *bufio.Reader
}

// line returns the next line without its end; io.EOF after the last one.
func (in *escInput) line() ([]byte, error) {
	if in.buf == nil {
		in.buf = bufio.NewReaderSize(in.from, 64<<10)
	}
	var line []byte
	for {
		part, err := in.buf.ReadSlice('\n')
		if room := esc.MaxCommand + 1 - len(line); room > 0 {
			line = append(line, part[:min(len(part), room)]...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(line) > 0:
			return line, nil
		default:
			return line, err
		}
	}
}

// commands calls fn for each command.
func (in *escInput) commands(fn func(text []byte) error) error {
	var lines esc.Lines
	for {
		line, err := in.line()
		if err != nil && err != io.EOF {
			return fail("input", "the commands before were done", "stdin: %v", err)
		}
		for _, text := range lines.Add(line) {
			if err := fn(text); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
	}
	if last := lines.End(); last != nil {
		return fn(last)
	}
	return nil
}
