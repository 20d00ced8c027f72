package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/term"
)

// settings say how to reach etcd.
type settings struct {
	endpoints                   []string
	caFile, certFile, keyFile   string
	user, password              string
	dialTimeout, commandTimeout time.Duration
	namespace                   string
	noPrompt                    bool      // ask for no password
	warnings                    io.Writer // nil: they are dropped
}

// connectionFlags are the flags that have an environment variable.
var connectionFlags = []string{
	"endpoints", "cacert", "cert", "key", "user", "password", "dial-timeout", "command-timeout", "namespace",
}

func (s *settings) addTo(flags *pflag.FlagSet) {
	flags.StringSliceVar(&s.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "`addresses` of etcd, separated by commas")
	flags.StringVar(&s.caFile, "cacert", "", "verify etcd's certificate with the CA bundle in this `file`")
	flags.StringVar(&s.certFile, "cert", "", "identify to etcd by the TLS certificate in this `file`")
	flags.StringVar(&s.keyFile, "key", "", "the TLS key `file` of --cert")
	flags.StringVar(&s.user, "user", "", "`name[:password]` of etcd's user; the password is asked for if it is not given")
	flags.StringVar(&s.password, "password", "", "`password` of --user, which then is the name alone")
	flags.DurationVar(&s.dialTimeout, "dial-timeout", 2*time.Second, "how long to try to connect")
	flags.DurationVar(&s.commandTimeout, "command-timeout", 5*time.Second, "how long etcd may take for one request")
	flags.StringVar(&s.namespace, "namespace", "", "`prefix` of all keys, as in runtime.WithNamespace")
}

// config is the etcd client's. It may ask the terminal for a password.
func (s *settings) config(ctx context.Context) (clientv3.Config, error) {
	cfg := clientv3.Config{
		Context: ctx, Endpoints: s.endpoints,
		DialTimeout: s.dialTimeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		Logger: zap.NewNop(), // what fails comes back as an error
	}
	if s.dialTimeout <= 0 || s.commandTimeout <= 0 {
		return cfg, usageError{errors.New("--dial-timeout and --command-timeout must be above zero")}
	}
	var err error
	if cfg.TLS, err = s.tls(); err != nil {
		return cfg, err
	}
	cfg.Username, cfg.Password, err = s.credentials()
	return cfg, err
}

// tls is nil for plaintext: without any of the files, and no address that begins with https://.
func (s *settings) tls() (*tls.Config, error) {
	files := tlsFiles{ca: s.caFile, cert: s.certFile, key: s.keyFile}
	https := slices.ContainsFunc(s.endpoints, func(e string) bool { return strings.HasPrefix(e, "https://") })
	if s.caFile == "" && s.certFile == "" && s.keyFile == "" && !https {
		return nil, nil
	}
	return files.config()
}

// tlsFiles name the files of a TLS configuration. Any may be "".
type tlsFiles struct {
	prefix        string // of the flags that name them
	ca, cert, key string
}

func (f tlsFiles) config() (*tls.Config, error) {
	if (f.cert == "") != (f.key == "") {
		return nil, usageError{fmt.Errorf("--%[1]scert and --%[1]skey go together", f.prefix)}
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		var err error
		if cfg.RootCAs, err = certPool(fmt.Sprintf("--%scacert", f.prefix), f.ca); err != nil {
			return nil, err
		}
	}
	if f.cert != "" {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--%[1]scert and --%[1]skey: %[2]w", f.prefix, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// credentials are "" and "" for nobody in particular.
func (s *settings) credentials() (user, password string, err error) {
	if s.user == "" {
		if s.password != "" {
			return "", "", usageError{errors.New("--password needs --user")}
		}
		return "", "", nil
	}
	if s.password != "" {
		return s.user, s.password, nil
	}
	if user, password, ok := strings.Cut(s.user, ":"); ok {
		return user, password, nil
	}
	stdin := int(os.Stdin.Fd())
	if s.noPrompt || !term.IsTerminal(stdin) {
		return "", "", usageError{fmt.Errorf("no password for the user %q: give --password, --user %s:PASSWORD or %sPASSWORD", s.user, s.user, environment)}
	}
	sayf(os.Stderr, "Password of %s: ", s.user)
	typed, err := term.ReadPassword(stdin)
	sayf(os.Stderr, "\n")
	if err != nil {
		return "", "", fmt.Errorf("read the password: %w", err)
	}
	return s.user, string(typed), nil
}
