package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/chand/backup"
	"github.com/eschaton-network/chand/internal/seedfile"
)

// A restore touches no phrase but its own, and what a kill in the middle of one leaves is no home and in nobody's way.
func TestRestoreIntoAHome(t *testing.T) {
	const (
		words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about\n"
		other = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong\n"
	)
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(at("words"), words)
	seed, err := seedfile.Read(at("words"))
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := backup.NewWriter(&file, seed.Secret(chand.BackupSecret), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Complete(1); err != nil {
		t.Fatal(err)
	}
	write(at("backup"), file.String())
	restore := func(home string) (int, string) {
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"backup", "restore", at("backup"), "--seed-file", at("words"), "--to", home}, strings.NewReader(""), &out, &errs, false)
		return code, out.String() + errs.String()
	}

	write(at("others", "seed.txt"), other)
	if code, text := restore(at("others")); code == 0 || !strings.Contains(text, "left as it is") {
		t.Errorf("a home with another phrase: %d %s", code, text)
	}
	if b, err := os.ReadFile(at("others", "seed.txt")); err != nil || string(b) != other {
		t.Errorf("the other phrase is %q: %v", b, err)
	}
	if _, err := os.Stat(at("others", storeFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store beside the other phrase: %v", err)
	}

	write(at("new", storeFile+".restoring", "CHAND"), "half of one")
	if code, text := restore(at("new")); code != 0 {
		t.Fatalf("%d %s", code, text)
	}
	if b, err := os.ReadFile(at("new", "seed.txt")); err != nil || string(b) != words {
		t.Errorf("the phrase is %q: %v", b, err)
	}
	left, err := filepath.Glob(at("new", "*.restoring"))
	if _, there := os.Stat(at("new", storeFile)); err != nil || there != nil || len(left) != 0 {
		t.Errorf("store: %v; left: %v %v", there, left, err)
	}
	if code, text := restore(at("new")); code == 0 || !strings.Contains(text, "home already") {
		t.Errorf("a second restore: %d %s", code, text)
	}
}
