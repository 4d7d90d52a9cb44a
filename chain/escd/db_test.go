package escd

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// childOpens is the directory in which the process that is killed creates databases.
const childOpens = "ESCD_TEST_CHILD_OPENS"

// openMany creates databases until it is killed, and prints the name of each.
func openMany(dir string) error {
	for i := 0; ; i++ {
		name := fmt.Sprint("db", i)
		db, err := openDB(name, dir)
		if err != nil {
			return err
		}
		fmt.Println(name)
		if err := db.Close(); err != nil {
			return err
		}
	}
}

// TestKillNewDatabase: a database that was being created when the process was killed can be opened afterwards.
func TestKillNewDatabase(t *testing.T) {
	for kills := range 10 {
		dir := t.TempDir()
		cmd := exec.CommandContext(bounded(t), os.Args[0])
		cmd.Env = append(os.Environ(), childOpens+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "FAILED") {
				t.Fatal(lines.Text())
			}
			if seen++; seen == kills+1 {
				cmd.Process.Kill() // it is somewhere in the next ones meanwhile
			}
		}
		cmd.Wait()
		if seen <= kills {
			t.Fatalf("the child ended by itself after %d databases", seen)
		}
		begun, err := filepath.Glob(filepath.Join(dir, "*.db"))
		if err != nil || len(begun) < seen {
			t.Fatalf("%d databases, %v; %d were reported", len(begun), err, seen)
		}
		for _, path := range begun {
			name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".db"), newDB)
			db, err := openDB(name, dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.SetSync([]byte("key"), []byte("value")); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, name+newDB+".db")); err == nil {
				t.Errorf("%s: what was begun is still there", name)
			}
		}
	}
}
