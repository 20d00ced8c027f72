package endpoint

// Trouble returns how a framework's own reader fails on an entry in another layout, "" if it accepts it. own is the layout of the reader.
// Readers of layouts that are not named here skip what they cannot use. docs/layouts.md has this for people, and module compat tries each
// pair on the readers themselves.
func Trouble(own, other Layout) string {
	switch {
	case own == other:
	case own == GoFrame:
		return "GoFrame's own reader panics at a key that does not end in host:port, or gives up on the whole list over its value"
	case own == Kratos && !other.JSON():
		return "kratos' own reader gives up on the whole list over an entry that is no JSON"
	case own == Kitex && other.JSON() && other != GoFrame: // which has the key of kitex, and is never written beside it
		return "kitex' own reader adds an instance without an address for other JSON"
	case own == GoMicro && other.JSON():
		return "go-micro's own reader takes other JSON for a service without nodes or a name"
	}
	return ""
}
