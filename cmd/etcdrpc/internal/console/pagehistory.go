package console

import (
	"net/http"
)

// historyPage is what etcd still knows of the past of a service.
type historyPage struct {
	frame
	Key     string
	History *History
}

func (c *Console) history(r *http.Request) (*answer, error) {
	key := r.Form.Get("key")
	h, err := c.Backend.History(r.Context(), key)
	if err != nil {
		return nil, err
	}
	return &answer{template: "history", model: &historyPage{c.frame("History of " + key), key, h}}, nil
}
