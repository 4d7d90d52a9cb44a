package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

// lightningTools is a foreign L402 client: the version that the test was written with.
const lightningTools = "@getalby/lightning-tools@9.0.1"

// foreignScript fetches a URL twice with an unmodified client, whose wallet pays through our test bank.
const foreignScript = `
import { fetch402, fetchWithL402 } from "@getalby/lightning-tools";
const [url, bank] = process.argv.slice(2);
const wallet = { payInvoice: async ({ invoice }) => (await fetch(bank + "?invoice=" + encodeURIComponent(invoice))).json() };
const out = [];
for (const get of [fetchWithL402, fetch402]) {
  const res = await get(url, {}, { wallet, store: { getItem: () => null, setItem: () => {} } });
  out.push({ status: res.status, body: await res.text() });
}
console.log(JSON.stringify(out));
`

// TestForeignClient drives an L402 client from npm, unmodified, against the gateway.
func TestForeignClient(t *testing.T) {
	if os.Getenv("CHAND_FOREIGN") == "" {
		t.Skip("SKIPPED: foreign clients are installed from the network; set CHAND_FOREIGN=1 to run them")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("SKIPPED: CHAND_FOREIGN is set but there is no npm here, so no foreign client was tried")
	}
	dir := t.TempDir()
	install := exec.CommandContext(t.Context(), npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, lightningTools)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
	script := filepath.Join(dir, "client.mjs")
	if err := os.WriteFile(script, []byte(foreignScript), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openShop(t, memstore.New(), nil)
	bank := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _, err := s.bank.Pay(r.Context(), r.URL.Query().Get("invoice"), types.MaxAmount, "")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"preimage":%q}`, p)
	}))
	defer bank.Close()
	out, err := exec.CommandContext(t.Context(), "node", script, s.url+"/echo/tea?milk=1", bank.URL).CombinedOutput()
	var got []struct {
		Status int
		Body   string
	}
	if err != nil || json.Unmarshal(out, &got) != nil || len(got) != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, g := range got {
		if g.Status != 200 || g.Body != "GET /tea?milk=1 " {
			t.Errorf("%+v", g)
		}
	}
	if s.bank.moved != 6*types.Coin || s.served.Load() != 2 {
		t.Errorf("%s moved, %d served", s.bank.moved, s.served.Load())
	}
}
