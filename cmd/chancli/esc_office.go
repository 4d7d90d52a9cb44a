package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/eschaton-network/chand/esc"
)

const (
	// escTimeout covers an office that waits for a slow block.
	escTimeout = 2 * time.Minute
	// maxEscAnswer bounds an office's answer: a table of all nodes that there can be.
	maxEscAnswer = 32 << 20
)

// escOffice asks an office over HTTP.
type escOffice struct {
	base string
	http *http.Client
}

func newEscOffice(s esc.Settings) *escOffice {
	return &escOffice{base: "http://" + net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))), http: &http.Client{
		Timeout:       escTimeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("an office does not redirect") },
	}}
}

func (o *escOffice) close() { o.http.CloseIdleConnections() }

// get asks for a path under /v1/esc/.
func (o *escOffice) get(ctx context.Context, path string, out any) *esc.Error {
	_, err := o.do(ctx, http.MethodGet, path, nil, out)
	return err
}

// post sends bytes. reached tells, when there is an error, whether the office may have got them without having refused them.
func (o *escOffice) post(ctx context.Context, path string, body []byte, out any) (reached bool, err *esc.Error) {
	return o.do(ctx, http.MethodPost, path, body, out)
}

func (o *escOffice) do(ctx context.Context, method, path string, body []byte, out any) (reached bool, _ *esc.Error) {
	req, err := http.NewRequestWithContext(ctx, method, o.base+"/v1/esc/"+path, bytes.NewReader(body))
	if err != nil {
		return false, &esc.Error{Code: esc.CodeConnect, Info: err.Error()}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	res, err := o.http.Do(req)
	if err != nil {
		var dial *net.OpError
		reached = !errors.As(err, &dial) || dial.Op != "dial"
		return reached, &esc.Error{Code: esc.CodeConnect, Info: err.Error() + "; is port the one of the running node's ledger.office?"}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxEscAnswer+1))
	switch {
	case err != nil:
		return true, &esc.Error{Code: esc.CodeConnect, Info: err.Error()}
	case len(b) > maxEscAnswer:
		return true, &esc.Error{Code: esc.CodeConnect, Info: "the office answered with more than " + strconv.Itoa(maxEscAnswer) + " bytes"}
	case res.StatusCode == http.StatusNotFound:
		reached, e := escProblem(res.Status, b)
		for prefix, code := range escMissing {
			if e.Code == esc.CodeUnknown && strings.HasPrefix(path, prefix) {
				e.Code = code
			}
		}
		return reached, e
	case res.StatusCode != http.StatusOK:
		return escProblem(res.Status, b)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return true, &esc.Error{Code: esc.CodeConnect, Info: "the office answered with something else than expected: " + err.Error()}
	}
	return true, nil
}

// escMissing are the original's codes for what is not there, by what was asked for.
var escMissing = map[string]uint32{"accounts": 7, "block": esc.CodeNoBlock, "signatures": 30, "validators": esc.CodeVIP, "messages": 24,
	"broadcasts": 23, "transactions": esc.CodeNoTx, "log": 33}

// escProblem reads an office's refusal. With a ledger's code nothing was taken.
func escProblem(status string, b []byte) (reached bool, _ *esc.Error) {
	var p struct {
		LedgerCode    uint32 `json:"ledger_code"`
		Code          string
		Message, Next string
	}
	if json.Unmarshal(b, &p) != nil || p.Message == "" {
		return true, &esc.Error{Code: esc.CodeConnect, Info: "the office answered " + status + ": is port the one of the running node's ledger.office?"}
	}
	e := &esc.Error{Code: p.LedgerCode, Info: p.Message + "; " + p.Next}
	if e.Code == 0 {
		e.Code = esc.CodeUnknown
	}
	return p.Code == "timeout" || p.Code == "internal", e
}
