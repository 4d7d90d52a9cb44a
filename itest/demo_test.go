package itest

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestDemo runs the main job as a user does.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out the tests with real processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "demo", "--dir", t.TempDir()+"/net").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"It adds up", "Every step held", "Without any daemon"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not say %q", want)
		}
	}
}
