package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// clock are the functions of package time that read or wait for the clock. types may import time for its type alone.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}

// finding is what a rule's source must not hold.
func finding(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "starts a goroutine"
	case *ast.ChanType:
		return "has a channel: something waits there"
	case *ast.SelectorExpr:
		if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clock, n.Sel.Name) {
			return "reads the clock: time." + n.Sel.Name
		}
	}
	return ""
}

// TestRulesStartNothing reads the source of rings 0 and 1: what imports can't show.
func TestRulesStartNothing(t *testing.T) {
	seen := 0
	for _, rule := range order {
		err := filepath.WalkDir(filepath.Join("..", "..", rule), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			seen++
			files := token.NewFileSet()
			f, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if what := finding(n); what != "" {
					t.Errorf("%s %s", files.Position(n.Pos()), what)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if seen < 50 {
		t.Errorf("only %d files were read", seen)
	}
}

// TestFindings makes sure that the test above can fail.
func TestFindings(t *testing.T) {
	for src, bad := range map[string]bool{
		"go f()": true, "var c chan int; _ = c": true, "_ = time.Now()": true, "_ = time.Unix(0, 0)": false, "f()": false,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; func _() {"+src+"}", 0)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		ast.Inspect(f, func(n ast.Node) bool { found = found || finding(n) != ""; return true })
		if found != bad {
			t.Errorf("%q: found %v, want %v", src, found, bad)
		}
	}
}
