package doctor

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// TestReadersFindMore has entries that are not the service's, in keys that its old callers list, too.
func TestReadersFindMore(t *testing.T) {
	const (
		goFrame = "/service/default/default/user/latest"
		kratos  = `{"id":"a","name":"user","version":"v1","metadata":{},"endpoints":["grpc://10.0.0.7:9000?isSecure=false"]}`
	)
	for _, tt := range []struct{ own, value, key, text, where string }{
		{goFrame + "/10.0.0.7:9000", `{"protocol":"grpc"}`, goFrame + "/deep/10.0.0.7", `{"a":1}`, goFrame + "/deep/10.0.0.7"},
		{goFrame + "/10.0.0.7:9000", `{"protocol":"grpc"}`, goFrame + "2/x", `{"a":1}`, goFrame + "2/x"},
		{"/microservices/user/a", kratos, "/microservices/user/deep/theme", "dark", "/microservices/user/deep/theme"},
		{"/microservices/user/a", kratos, "/microservices/user-settings/theme", "dark", "/microservices/user-settings/theme"},
		{"/microservices/user/a", kratos, "/microservices/order/theme", "dark", ""},
	} {
		entries := survey.InOrder(map[string]survey.Entry{tt.own: {Key: tt.own, Value: []byte(tt.value), Lease: 1}, tt.key: {Key: tt.key, Value: []byte(tt.text)}})
		p := known(survey.All(entries))
		p.services, p.entries = p.services[:1], entries // what proves to be a service
		p.checkReaders(p.services[0])
		found := ""
		for _, f := range p.findings {
			found += f.Where[0]
		}
		if found != tt.where {
			t.Errorf("%s beside %s: %+v", tt.key, tt.own, p.findings)
		}
	}
}
