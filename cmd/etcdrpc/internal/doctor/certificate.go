package doctor

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// minute shows a time at which a certificate begins to be valid, or ends.
const minute = "2006-01-02 15:04 MST"

// checkCertificate finds what is wrong with the certificates that a server shows, the leaf first.
func (x *subject) checkCertificate(i *survey.Instance, certs []*x509.Certificate) {
	now, name := time.Now(), x.tlsName()
	fix := fmt.Sprintf("give its server a certificate of the services' authority for %s; where the proto sets another authority: --service-authority %s=NAME",
		cmp.Or(name, "the authority of the proto"), output.Shell(x.Key))
	if len(certs) > 0 && isIdentity(certs[0]) {
		fix += fmt.Sprintf("; where all clients have credentials that verify identities, and somebody else watches how long these last: --skip %s", KindCertificate)
	}
	for _, fault := range certificateFaults(certs, name, x.roots, now) {
		x.report(KindCertificate, i.Addr+": "+fault, fix, i.Entry.Key)
	}
	for _, cert := range certs {
		if left, unit, ok := endsIn(cert, now); ok {
			x.report(KindCertificateEnds, fmt.Sprintf("%s: a certificate ends in %.0f %s, at %s", i.Addr, left, unit, cert.NotAfter.UTC().Format(minute)),
				"renew it, and see that its server takes the new one; if that happens by itself, see why it has not yet", i.Entry.Key)
			return
		}
	}
}

// certificateFaults says why clients refuse certificates. roots are those that clients trust, nil if they are not known; name
// is the one that clients want, "" if it is not known.
func certificateFaults(certs []*x509.Certificate, name string, roots *x509.CertPool, now time.Time) (faults []string) {
	if len(certs) == 0 {
		return []string{"the server shows no certificate"}
	}
	leaf := certs[0]
	switch {
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
		why := strings.TrimPrefix(err.Error(), "x509: ")
		if errors.As(err, new(x509.UnknownAuthorityError)) { // its text is advice for programmers
			why = "unknown authority"
		}
		faults = append(faults, "the certificate is not signed by an authority of --service-cacert: "+why)
	}
	return faults
}

// maxEnds bounds how long before its end a certificate is told of.
const maxEnds = 14 * 24 * time.Hour

// endsIn says how long a certificate lasts, if that is not long: within two weeks, and the last fifth of its time, by when those
// who renew certificates have done so.
func endsIn(cert *x509.Certificate, now time.Time) (left float64, unit string, soon bool) {
	d := cert.NotAfter.Sub(now)
	soon = d > 0 && d <= min(maxEnds, cert.NotAfter.Sub(cert.NotBefore)/5)
	if d < 48*time.Hour {
		return d.Hours(), "hours", soon
	}
	return d.Hours() / 24, "days", soon
}

// isIdentity reports whether a certificate is for a workload's identity alone, such as SPIFFE's, which clients go by whose
// credentials verify that in place of a name.
func isIdentity(cert *x509.Certificate) bool {
	return len(cert.URIs) > 0 && len(cert.DNSNames)+len(cert.IPAddresses) == 0
}

// namesOf lists the names that a certificate is for.
func namesOf(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
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
