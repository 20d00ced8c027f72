package console

type errorPage struct{ frame }

func (c *Console) errorPage(err error) *errorPage {
	p := &errorPage{c.frame("Error")}
	p.Instead = err.Error()
	return p
}

type frame struct {
	*content
	Title    string
	Follows  bool   // it is sent what changes
	Version  string // differs whenever the page does, of one that follows
	ReadOnly bool
	Token    bool // one can log out
	Etcd     string
	Instead  string // why the page is not there; "": it is
	Fleet    *Fleet
}

func (f *frame) base() *frame { return f }

func (c *Console) frame(title string) frame {
	return frame{Title: title, ReadOnly: c.ReadOnly, Token: c.Token != "", Etcd: c.Etcd, Fleet: c.Backend.Fleet()}
}
