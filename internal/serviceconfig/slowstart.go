package serviceconfig

import "time"

// The bounds of a slow start's window, and the default of its MinPercent.
const (
	MinSlowStart            = Duration(time.Second)
	MaxSlowStart            = Duration(time.Hour)
	DefaultSlowStartPercent = 10
)

// SlowStart lets the share of an instance that has just started grow evenly.
type SlowStart struct {
	Window Duration `json:"window"`
	// MinPercent is the share at first, in percent of the full one. 0: DefaultSlowStartPercent.
	MinPercent uint32 `json:"minPercent,omitempty"`
}

// String returns the window.
func (s *SlowStart) String() string { return time.Duration(s.Window).String() }

var slowStartFields = fields[SlowStart]{
	"window": func(s *SlowStart, v value) error {
		d, err := v.duration(MinSlowStart)
		if err == nil && d > MaxSlowStart {
			err = v.wants("at most " + MaxSlowStart.String())
		}
		return assign(&s.Window)(d, err)
	},
	"minPercent": func(s *SlowStart, v value) error {
		return assign(&s.MinPercent)(number[uint32](v, 1, MaxPercent))
	},
}

func readSlowStart(v value) (*SlowStart, error) {
	s, err := readObject(v, slowStartFields, "window")
	return &s, err
}
