package output

import (
	"regexp"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Commands makes the command lines that are printed to be pasted. In every
// shell, a line reaches the same etcd as the same user, and asks for the
// password. It repeats empty settings, too, because the shell's environment may
// set them.
type Commands struct {
	Endpoints                 []string // without passwords
	CAFile, CertFile, KeyFile string
	User                      string // without the password
	Namespace                 string
}

// settings returns the names and values of the settings that etcdrpc shares
// with etcdctl.
func (c *Commands) settings() [][2]string {
	return [][2]string{
		{"endpoints", strings.Join(c.Endpoints, ",")},
		{"cacert", c.CAFile},
		{"cert", c.CertFile},
		{"key", c.KeyFile},
		{"user", c.User},
	}
}

// Etcdrpc returns a line that runs a command of etcdrpc, such as "policy rm".
func (c *Commands) Etcdrpc(command string, args ...string) string {
	line := "etcdrpc " + command
	for _, s := range append(c.settings(), [2]string{"namespace", c.Namespace}) {
		line += " " + quoted("--"+s[0]+"="+s[1])
	}

	return strings.TrimSuffix(line+" "+Shell(args...), " ")
}

// EtcdctlDel returns a line that deletes a full key. The line sets variables
// instead of flags, because etcdctl refuses a flag whose variable is also set.
// etcdctl ignores empty variables. The line empties the first four, which could
// select another etcd, transport or user.
func (c *Commands) EtcdctlDel(key string) string {
	line := "env ETCDCTL_DISCOVERY_SRV= ETCDCTL_INSECURE_TRANSPORT= ETCDCTL_INSECURE_SKIP_TLS_VERIFY= ETCDCTL_AUTH_JWT_TOKEN="
	for _, s := range c.settings() {
		line += " " + quoted("ETCDCTL_"+strings.ToUpper(s[0])+"="+s[1])
	}

	return line + " etcdctl del " + Shell(key)
}

// Within returns the arguments that name a key in a namespace.
func Within(namespace, key string) string {
	return quoted("--namespace="+namespace) + " " + Shell(key)
}

// Shell quotes arguments for a shell. "--" comes before the first that begins
// with a dash, so that no command reads it as a flag.
func Shell(args ...string) string {
	words := make([]string, len(args))
	dashed := false
	for n, arg := range args {
		words[n] = quoted(arg)
		if len(arg) > maxWord {
			words[n] = NoWord
		}

		dashed = dashed || strings.HasPrefix(arg, "-") && arg != "-"
	}

	if dashed {
		words = slices.Insert(words, 0, "--")
	}

	return strings.Join(words, " ")
}

// maxWord bounds a printed argument of a command, in bytes.
const maxWord = 512

// NoWord replaces a word that shells read differently, or that is too long.
// Shells reject NoWord.
const NoWord = "<KEY>"

var (
	// bareWord matches words that mean themselves in sh, bash, zsh, fish and
	// PowerShell.
	bareWord = regexp.MustCompile(
		`^(-|--[a-z]+=|(--[a-z]+=)?[A-Za-z0-9/._][A-Za-z0-9/._:=-]*)$`)

	// unquotable matches words that differ between these shells even in single
	// quotes: PowerShell also ends them at typographic quotes, and loses double
	// quotes; fish reads escapes of a backslash and a quote.
	unquotable = regexp.MustCompile(`['"‘’‚‛]|\\\\|\\$`)
)

// quoted returns a word quoted for a shell, if necessary.
func quoted(word string) string {
	switch {
	case bareWord.MatchString(word):
		return word
	case printable.Text(word) != word || unquotable.MatchString(word):
		return NoWord
	}

	return "'" + word + "'"
}

// Offered returns the words that a shell can complete without quotes, because
// some completion scripts do not quote. Offered also drops words with the
// prefix of cobra's messages.
func Offered(words []string) []string {
	return slices.DeleteFunc(words, func(word string) bool {
		return Shell(word) != word || strings.HasPrefix(word, "_activeHelp_")
	})
}
