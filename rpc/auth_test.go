package rpc

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"gopkg.in/macaroon.v2"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func schemaMethods() map[string]bool {
	out := map[string]bool{}
	protoregistry.GlobalFiles.RangeFilesByPackage("chand.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				out[string(s.FullName())+"/"+string(s.Methods().Get(j).Name())] = true
			}
		}
		return true
	})
	return out
}

// Every method has a permission, and every permission a method.
func TestPermissionTable(t *testing.T) {
	schema := schemaMethods()
	if len(schema) < 30 {
		t.Fatalf("only %d methods in the schema", len(schema))
	}
	for m := range schema {
		if permissions[m] == "" {
			t.Errorf("%s has no permission", m)
		}
	}
	for m := range permissions {
		if !schema[m] && !strings.HasPrefix(m, "grpc.reflection.") {
			t.Errorf("%s is not in the schema", m)
		}
	}
}

func TestMacaroons(t *testing.T) {
	root := [32]byte{7}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	a := authority{root, func() time.Time { return now }}
	bake := func(root [32]byte, end time.Time, methods ...string) string {
		m, _, err := Bake(root, methods, end)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	add := func(text, caveat string) string {
		b, _ := hex.DecodeString(text)
		var m macaroon.Macaroon
		if err := m.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if err := m.AddFirstPartyCaveat([]byte(caveat)); err != nil {
			t.Fatal(err)
		}
		b, _ = m.MarshalBinary()
		return hex.EncodeToString(b)
	}
	third := func(text string) string {
		b, _ := hex.DecodeString(text)
		var m macaroon.Macaroon
		_ = m.UnmarshalBinary(b)
		if err := m.AddThirdPartyCaveat([]byte("k"), []byte("id"), "elsewhere"); err != nil {
			t.Fatal(err)
		}
		b, _ = m.MarshalBinary()
		return hex.EncodeToString(b)
	}
	bare, err := macaroon.New(root[:], []byte("id"), "", macaroon.V2)
	if err != nil {
		t.Fatal(err)
	}
	unlimited, _ := bare.MarshalBinary()
	all := bake(root, time.Time{}, adminMethods...)
	const pay, get = "chand.v1.Payments/Pay", "chand.v1.Payments/Get"
	for _, c := range []struct{ name, text, method, want string }{
		{"admin", all, pay, ""},
		{"read only reads", bake(root, time.Time{}, "@read"), get, ""},
		{"read only pays", bake(root, time.Time{}, "@read"), pay, "not_permitted"},
		{"one service", bake(root, time.Time{}, "chand.v1.Payments/*"), pay, ""},
		{"one service elsewhere", bake(root, time.Time{}, "chand.v1.Payments/*"), "chand.v1.Account/Send", "not_permitted"},
		{"one method", bake(root, time.Time{}, get), get, ""},
		{"one method, another", bake(root, time.Time{}, get), pay, "not_permitted"},
		{"in time", bake(root, now.Add(time.Second), "@spend"), pay, ""},
		{"at its end", bake(root, now, "@spend"), pay, "macaroon_expired"},
		{"narrowed", add(all, "methods=@read"), pay, "not_permitted"},
		{"widening does nothing", add(bake(root, time.Time{}, "@read"), "methods=@spend"), pay, "not_permitted"},
		{"unknown condition", add(all, "ipaddr=10.0.0.1"), pay, "macaroon_invalid"},
		{"third party", third(all), pay, "macaroon_invalid"},
		{"no methods", hex.EncodeToString(unlimited), pay, "macaroon_invalid"},
		{"another root key", bake([32]byte{8}, time.Time{}, "@spend"), pay, "macaroon_invalid"},
		{"not hex", "zz", pay, "macaroon_invalid"},
		{"cut", all[:len(all)-2], pay, "macaroon_invalid"},
		{"a bit changed", all[:len(all)-2] + "00", pay, "macaroon_invalid"},
		{"huge", strings.Repeat("00", 1<<20), pay, "macaroon_invalid"},
	} {
		got := ""
		if err := a.check(c.method, c.text); err != nil {
			got = Detail(err).Code
			if Detail(err).Next == "" {
				t.Errorf("%s: no next step", c.name)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, bad := range []string{"@root", "chand.v1.Payment/Pay", "*", ""} {
		if _, _, err := Bake(root, []string{bad}, time.Time{}); err == nil {
			t.Errorf("baked %q", bad)
		}
	}
}

func TestCredentialForms(t *testing.T) {
	a := authority{[32]byte{7}, time.Now}
	m, _, err := Bake(a.rootKey, []string{"@read"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []http.Header{
		{"Authorization": {"Bearer " + m}}, {"Authorization": {"bearer  " + m}}, {"Authorization": {"Macaroon " + m}},
		{"Authorization": {"Basic eDp5", "Bearer " + m}}, {"Macaroon": {m}}, {"Grpc-Metadata-Macaroon": {m}},
		{"Authorization": {"Bearer 00"}, "Macaroon": {m}},
	} {
		if err := a.allow("chand.v1.Status/Get", h); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
	for _, h := range []http.Header{{}, {"Authorization": {m}}, {"Authorization": {"Basic " + m}}, {"Cookie": {"macaroon=" + m}}} {
		if err := a.allow("chand.v1.Status/Get", h); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%v: %v", h, err)
		}
	}
}

func FuzzMacaroon(f *testing.F) {
	a := authority{[32]byte{7}, time.Now}
	m, _, _ := Bake([32]byte{9}, []string{"@read"}, time.Time{})
	f.Add(m)
	f.Add("0201")
	f.Fuzz(func(t *testing.T, text string) {
		if a.check("chand.v1.Status/Get", text) == nil {
			t.Fatal("a macaroon of another root key was accepted")
		}
	})
}

// What the strict decoder takes, it gives back: JSON to message to JSON to the same message.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"amount":"1","idempotency_key":"k"}`))
	f.Add([]byte(`{"maxFee":"0.1","timeoutSeconds":3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := jsonCodec{"json"}
		var m, again chandv1.PayRequest
		if c.Unmarshal(b, &m) != nil {
			return
		}
		out, err := c.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Unmarshal(out, &again); err != nil || !proto.Equal(&m, &again) {
			t.Fatalf("%s -> %s: %v", b, out, err)
		}
		if protojson.Unmarshal(b, &again) != nil {
			t.Fatal("looser than protojson")
		}
	})
}

func FuzzProto(f *testing.F) {
	b, _ := proto.Marshal(&chandv1.PayRequest{Amount: "1", To: "x"})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m chandv1.PublishStatementRequest
		if (protoCodec{}).Unmarshal(b, &m) == nil && len(m.ProtoReflect().GetUnknown()) > 0 {
			t.Fatal("unknown field accepted")
		}
	})
}
