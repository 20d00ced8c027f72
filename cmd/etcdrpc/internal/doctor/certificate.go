package doctor

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// certificateFaults says why clients refuse the certificates that a server shows, the leaf first. roots are those that
// clients trust, nil if they are not known; name is the one that clients want, "" if it is not known.
func certificateFaults(certs []*x509.Certificate, name string, roots *x509.CertPool, now time.Time) (faults []string) {
	if len(certs) == 0 {
		return []string{"the server shows no certificate"}
	}
	leaf := certs[0]
	switch minute := "2006-01-02 15:04 MST"; {
	case now.After(leaf.NotAfter):
		faults = append(faults, "the certificate expired at "+leaf.NotAfter.UTC().Format(minute))
	case now.Before(leaf.NotBefore):
		faults = append(faults, "the certificate is not valid before "+leaf.NotBefore.UTC().Format(minute))
	}
	switch {
	case name == "" || leaf.VerifyHostname(name) == nil:
	case isIdentity(leaf):
		faults = append(faults, fmt.Sprintf("the certificate is for the identity %s and no host name, so clients that verify the name %s, as TLS does by default, refuse it",
			namesOf(leaf), name))
	default:
		faults = append(faults, fmt.Sprintf("the certificate is for %s, not for %s, which clients want", namesOf(leaf), name))
	}
	if roots == nil {
		return faults
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	if len(faults) > 0 { // what is said of the time is said
		options.CurrentTime = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	}
	for _, cert := range certs[1:] {
		options.Intermediates.AddCert(cert)
	}
	if _, err := leaf.Verify(options); err != nil {
		faults = append(faults, "the certificate is not signed by an authority of --service-cacert: "+verifyReason(err))
	}
	return faults
}

// maxEnds bounds how long before its end a certificate is told of.
const maxEnds = 14 * 24 * time.Hour

// certificateEnds says when the first of the certificates that a server shows ends, "" if that is not soon: within two weeks, and
// the last fifth of its time, by when those who renew certificates have done so.
func certificateEnds(certs []*x509.Certificate, now time.Time) string {
	for _, cert := range certs {
		left := cert.NotAfter.Sub(now)
		switch {
		case left <= 0 || left > min(maxEnds, cert.NotAfter.Sub(cert.NotBefore)/5):
		case left < 48*time.Hour:
			return fmt.Sprintf("a certificate ends in %.0f hours, at %s", left.Hours(), cert.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
		default:
			return fmt.Sprintf("a certificate ends in %.0f days, at %s", left.Hours()/24, cert.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
		}
	}
	return ""
}

// verifyReason returns why a chain of certificates is refused, without the advice that is for programmers.
func verifyReason(err error) string {
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return "unknown authority"
	}
	return strings.TrimPrefix(err.Error(), "x509: ")
}

// isIdentity reports whether a certificate is for a workload's identity alone, such as SPIFFE's, which clients go by whose
// credentials verify that in place of a name.
func isIdentity(cert *x509.Certificate) bool {
	return len(cert.URIs) > 0 && len(cert.DNSNames)+len(cert.IPAddresses) == 0
}

// namesOf lists the names that a certificate is for.
func namesOf(cert *x509.Certificate) string {
	names := make([]string, 0, len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.URIs))
	names = append(names, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs { // a workload's, which clients that want a name do not go by
		names = append(names, uri.String())
	}
	if len(names) == 0 {
		return "no name"
	}
	return output.Quoted(names)
}
