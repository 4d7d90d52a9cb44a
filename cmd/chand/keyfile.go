package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxKeyFile bounds a key file: one line of 64 digits and some comments.
const maxKeyFile = 4 << 10

// keyFile takes the path of a key file: absolute, because the daemon may be started from elsewhere the next time.
func keyFile(p *string) func(string) error {
	return func(s string) error {
		if s != "" && !filepath.IsAbs(s) {
			return errors.New("want an absolute path")
		}
		*p = s
		return nil
	}
}

// loadKey reads a secret: one line of 64 hex digits, as in the original's key/key.txt; lines that are empty or start with # are
// comments. Without a path it is the one derived from the seed phrase.
func loadKey(path string, derived [32]byte) ([32]byte, error) {
	if path == "" {
		return derived, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return derived, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return derived, err
	}
	var keys [][]byte
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil || len(b) != 32 { // the line is not repeated: it may be a secret
			return derived, fmt.Errorf("%s: want one line of 64 hex digits, the ed25519 seed", path)
		}
		keys = append(keys, b)
	}
	if len(keys) != 1 || len(raw) > maxKeyFile {
		return derived, fmt.Errorf("%s: %d secrets in %d bytes: want one line of 64 hex digits", path, len(keys), len(raw))
	}
	return [32]byte(keys[0]), nil
}
