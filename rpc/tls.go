package rpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// certLife: the certificate is pinned by its file, so its age protects nothing; it is renewed at a start when little is left.
	certLife  = 10 * 365 * 24 * time.Hour
	certRenew = 30 * 24 * time.Hour
)

// loadCert reads the certificate, or makes a self-signed one on the first run, when it ends soon, or when host is not in it.
func loadCert(certFile, keyFile, host string, now time.Time) (tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case err == nil && c.Leaf.NotAfter.After(now.Add(certRenew)) && c.Leaf.VerifyHostname(host) == nil:
		return c, nil
	case err == nil && !slices.Contains(c.Leaf.Subject.Organization, certOrg):
		return c, fmt.Errorf("%s ends on %s or does not name %s: it is not one of chand's own, so replace it yourself", certFile, c.Leaf.NotAfter.Format(time.DateOnly), host)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return c, fmt.Errorf("TLS certificate %s with key %s: %w (remove both to have new ones made)", certFile, keyFile, err)
	}
	certPEM, keyPEM, err := newCert(host, now)
	if err != nil {
		return c, err
	}
	if err := writeFile(keyFile, keyPEM, 0o600); err != nil {
		return c, err
	}
	if err := writeFile(certFile, certPEM, 0o644); err != nil {
		return c, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// certOrg marks certificates that we made and may replace.
const certOrg = "chand self-signed"

func newCert(host string, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{certOrg}, CommonName: "localhost"},
		NotBefore:    now.Add(-24 * time.Hour), // clocks differ
		NotAfter:     now.Add(certLife),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:         true, // so that curl --cacert and gRPC clients take it as their root
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},

		BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = append(t.IPAddresses, ip)
	} else if host != "localhost" {
		t.DNSNames = append(t.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// writeFile replaces a file atomically and durably.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
