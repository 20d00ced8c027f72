package console

import (
	"fmt"
	"net/url"
	"strings"
)

// Link leads to what another console says of a service, such as a dashboard.
type Link struct{ Name, URL string }

// keyField stands for the key of the service in the URL of a link.
const keyField = "{key}"

// ParseLink reads a link as a user writes it: NAME=URL.
func ParseLink(text string) (Link, error) {
	name, pattern, ok := strings.Cut(text, "=")
	at, err := url.Parse(strings.ReplaceAll(pattern, keyField, "key"))
	if !ok || name == "" || err != nil || at.Scheme != "https" && at.Scheme != "http" || at.Host == "" {
		return Link{}, fmt.Errorf("%.80q is not a link: want NAME=URL, such as Grafana=https://grafana.example.com/d/grpc?var-service=%s", text, keyField)
	}
	return Link{name, pattern}, nil
}

func linksTo(links []Link, key string) (all []Link) {
	escaped := strings.ReplaceAll(url.QueryEscape(key), "+", "%20")
	for _, l := range links {
		all = append(all, Link{l.Name, strings.ReplaceAll(l.URL, keyField, escaped)})
	}
	return all
}
