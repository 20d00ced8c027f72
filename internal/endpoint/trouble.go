package endpoint

// Trouble returns how the reader of the framework of layout own fails on an entry in another
// layout, "" if it accepts the entry. Readers of other frameworks skip entries that they cannot
// use. docs/layouts.md lists the same pairs, and module compat tries each on the real readers.
func Trouble(own, other Layout) string {
	switch {
	case own == other:
	case own == GoFrame:
		return "GoFrame's own reader panics at a key that does not end in host:port, or gives up on the whole list over its value"
	case own == Kratos && !other.JSON():
		return "kratos' own reader gives up on the whole list over an entry that is no JSON"
	case own == Kitex && other.JSON() && other != GoFrame: // both layouts have the same key, so an entry has one of them
		return "kitex' own reader adds an instance without an address for other JSON"
	case own == GoMicro && other.JSON():
		return "go-micro's own reader takes other JSON for a service without nodes or a name"
	}
	return ""
}
