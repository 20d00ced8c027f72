package discovery

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
)

// authority signs the certificates of the services.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, key := certify(t, template, nil)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{certificate, key}
}

// sign makes a certificate for a server of the given name.
func (a *authority) sign(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	der, key := certify(t, &x509.Certificate{DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// certify makes a certificate with a new key, signed by the authority or, without one, by itself.
func certify(t *testing.T, template *x509.Certificate, by *authority) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: "security"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	must(t, err)
	return der, key
}

// trust is what callers go by.
func (a *authority) trust() credentials.TransportCredentials {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})
}
