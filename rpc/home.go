package rpc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Files of a daemon's home that clients use.
const (
	// RunFile is there while a daemon runs: a RunInfo as JSON.
	RunFile = "run.json"
	// CertFile and KeyFile are the TLS certificate, which clients pin, and its key.
	CertFile = "tls.cert"
	KeyFile  = "tls.key"
	// AdminFile, ReadonlyFile and InvoiceFile are macaroons in binary form, as lnd keeps them.
	AdminFile    = "admin.macaroon"
	ReadonlyFile = "readonly.macaroon"
	InvoiceFile  = "invoice.macaroon"
)

// RunInfo says where a running daemon answers.
type RunInfo struct {
	PID int `json:"pid"`
	// RPC is HOST:PORT of this interface.
	RPC string `json:"rpc"`
	// Gateway is HOST:PORT where services are sold, Ledger what --ledger-join takes, Peers the multiaddrs. Empty: off.
	Gateway string   `json:"gateway,omitempty"`
	Ledger  string   `json:"ledger,omitempty"`
	Peers   []string `json:"peers,omitempty"`
	// Calendar is HOST:PORT of the OpenTimestamps calendar.
	Calendar string `json:"calendar,omitempty"`
}

// WriteRun makes HOME/run.json. The daemon calls it when it is ready, and RemoveRun when it stops.
func WriteRun(home string, info RunInfo) error {
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(home, RunFile), append(b, '\n'), 0o600)
}

// RemoveRun removes HOME/run.json.
func RemoveRun(home string) error {
	err := os.Remove(filepath.Join(home, RunFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReadRun reads HOME/run.json. The error wraps fs.ErrNotExist when no daemon runs there.
func ReadRun(home string) (RunInfo, error) {
	var info RunInfo
	b, err := os.ReadFile(filepath.Join(home, RunFile))
	if err != nil {
		return info, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&info); err != nil || info.RPC == "" {
		return info, fmt.Errorf("%s is damaged: stop the daemon, remove the file and start again", filepath.Join(home, RunFile))
	}
	return info, nil
}

// writeMacaroons makes the three files unless they are there and valid under the root key.
func writeMacaroons(home string, a authority) error {
	for file, methods := range map[string][]string{AdminFile: adminMethods, ReadonlyFile: readonlyMethods, InvoiceFile: invoiceMethods} {
		path := filepath.Join(home, file)
		if b, err := os.ReadFile(path); err == nil && a.check("chand.v1.Status/Get", hex.EncodeToString(b)) == nil {
			continue
		}
		m, _, err := Bake(a.rootKey, methods, time.Time{})
		if err != nil {
			return err
		}
		b, err := hex.DecodeString(m)
		if err != nil {
			return err
		}
		if err := writeFile(path, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
