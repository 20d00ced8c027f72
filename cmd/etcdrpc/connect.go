package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
)

type settings struct {
	endpoints                   []string
	files                       transport.Files
	user, password              string
	dialTimeout, commandTimeout time.Duration
	namespace                   string
	noPrompt                    bool // never ask for a password
}

// maxAnswer bounds a response of etcd, in bytes. A list whose pages exceed it
// is read in smaller pages.
const maxAnswer = 8 << 20

// flags returns the flags. Each has an environment variable.
func (s *settings) flags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.StringSliceVar(&s.endpoints, "endpoints", []string{"127.0.0.1:2379"},
		"`addresses` of etcd, separated by commas")

	s.files.AddTo(flags, "",
		"verify etcd's certificate with the CA bundle in this `file`",
		"identify to etcd by the TLS certificate in this `file`",
		"the TLS key `file` of --cert")

	flags.StringVar(&s.user, "user", "",
		"`name[:password]` of etcd's user; the password is asked for if it is not given")
	flags.StringVar(&s.password, "password", "",
		"`password` of --user, which then is the name alone")
	flags.DurationVar(&s.dialTimeout, "dial-timeout", 2*time.Second,
		"how long to try to connect")
	flags.DurationVar(&s.commandTimeout, "command-timeout", 5*time.Second,
		"how long etcd may take for one request")
	flags.StringVar(&s.namespace, "namespace", "",
		"`prefix` of all keys, as in runtime.WithNamespace")

	return flags
}

// open connects to etcd. It warns of a password that is sent without TLS.
func (s *settings) open(ctx context.Context, warnings io.Writer) (*store.Store, error) {
	cfg, err := s.config(ctx)
	if err != nil {
		return nil, err
	}

	hosts := store.Remote(cfg.Endpoints)
	if len(hosts) > 0 &&
		cfg.Password != "" &&
		!store.Secured(cfg.Endpoints[0], cfg.TLS != nil) {
		output.Sayf(warnings,
			"etcdrpc: warning: the password of %s is sent without TLS to %s\n",
			cfg.Username, strings.Join(hosts, ", "))
	}

	commands := output.Commands{
		CAFile:    s.files.CA,
		CertFile:  s.files.Cert,
		KeyFile:   s.files.Key,
		Namespace: s.namespace,
	}

	// A command may be pasted in another directory.
	files := []*string{&commands.CAFile, &commands.CertFile, &commands.KeyFile}
	for _, file := range files {
		if path, err := filepath.Abs(*file); *file != "" && err == nil {
			*file = path
		}
	}

	return store.Open(cfg, commands, s.commandTimeout)
}

// config returns the configuration of the etcd client. It may ask for a
// password on the terminal.
func (s *settings) config(ctx context.Context) (clientv3.Config, error) {
	for i, e := range s.endpoints {
		s.endpoints[i] = strings.TrimSpace(e)
	}

	cfg := clientv3.Config{
		Context: ctx,

		// Shown removes passwords, which errors would show.
		Endpoints:            etcdcause.Shown(s.endpoints),
		DialTimeout:          s.dialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		MaxCallRecvMsgSize:   maxAnswer,
		Logger:               zap.NewNop(), // failures are returned as errors
	}
	if s.dialTimeout <= 0 || s.commandTimeout <= 0 {
		return cfg, usage.Mistakef(
			"--dial-timeout and --command-timeout must be above zero")
	}

	var err error
	cfg.TLS, err = s.tls()
	if err != nil {
		return cfg, err
	}

	cfg.Username, cfg.Password, err = s.credentials(ctx)

	return cfg, err
}

// tls returns the TLS configuration, nil for plaintext. It rejects http://
// together with TLS, because etcd's client would use the scheme of the first
// endpoint for all.
func (s *settings) tls() (*tls.Config, error) {
	https := func(e string) bool { return store.Secured(e, false) }
	http := func(e string) bool { return !store.Secured(e, true) }

	switch {
	case s.files == (transport.Files{}) && !slices.ContainsFunc(s.endpoints, https):
		return nil, nil
	case slices.ContainsFunc(s.endpoints, http):
		return nil, usage.Mistakef("--endpoints: http:// turns TLS off, but --cacert, --cert, --key or https:// turns it on: leave out either")
	}

	return s.files.Config()
}

// credentials returns the user and the password. Both are "" if no user is
// given.
func (s *settings) credentials(ctx context.Context) (user, password string, err error) {
	user, password, given := strings.Cut(s.user, ":")
	switch {
	case s.user == "" && s.password != "":
		return "", "", usage.Mistakef("--password needs --user")
	case given && s.password != "":
		return "", "", usage.Mistakef(
			"--user has a password, and --password is also given: omit one of them")
	case s.user == "" || s.password != "":
		return s.user, s.password, nil
	case password != "":
		return user, password, nil
	}

	stdin := int(os.Stdin.Fd())
	terminal, notTerminal := term.GetState(stdin)
	if !s.noPrompt && notTerminal == nil {
		output.Sayf(os.Stderr, "Password of %s: ", user)

		// ReadPassword turns off the echo, and does not end with ctx.
		stop := context.AfterFunc(ctx, func() {
			_ = term.Restore(stdin, terminal)
			output.Sayf(os.Stderr, "\n")
			os.Exit(exitWrong)
		})

		typed, err := term.ReadPassword(stdin)
		stop()
		output.Sayf(os.Stderr, "\n")

		if err != nil {
			return "", "", fmt.Errorf("read the password: %w", err)
		}

		password = string(typed)
	}

	if password == "" { // etcd's client would connect without a user
		return "", "", usage.Mistakef("no password for the user %q: give --password, --user %s:PASSWORD or %sPASSWORD",
			user, user, environment)
	}

	return user, password, nil
}

// environment is the prefix of the flags' environment variables. etcdctl uses
// the same prefix.
const environment = "ETCDCTL_"

// variable returns the name of the environment variable of a flag.
func variable(flag *pflag.Flag) string {
	return environment + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// unsupportedVariables lists variables of etcdctl that could select another
// etcd or connection, and that have no flag here. If the command line has the
// variable's flag, the variable does no harm. Printed commands have all these
// flags.
var unsupportedVariables = []struct{ name, harmless, flag, instead string }{
	{"DISCOVERY_SRV", "", "endpoints", "give the addresses by --endpoints"},
	{"DISCOVERY_SRV_NAME", "", "endpoints", "give the addresses by --endpoints"},
	{"INSECURE_SKIP_TLS_VERIFY", "false", "cacert",
		"give the CA of etcd's certificate by --cacert"},
	{"INSECURE_TRANSPORT", "true", "cacert", "give https:// in --endpoints"},
	{"AUTH_JWT_TOKEN", "", "user", "give --user"},
}

// fromEnvironment sets flags of the connection that are not on the command line
// from environment variables. An unsupported variable is an error.
func fromEnvironment(flags *pflag.FlagSet, getenv func(string) string) error {
	var errs []error
	for _, f := range unsupportedVariables {
		value := getenv(environment + f.name)
		if value != "" && value != f.harmless && !flags.Changed(f.flag) {
			errs = append(errs, fmt.Errorf(
				"environment variable %s%s is not supported: unset it, and %s",
				environment, f.name, f.instead))
		}
	}

	user := flags.Lookup("user").Value.String()
	named := flags.Changed("user")

	new(settings).flags().VisitAll(func(flag *pflag.Flag) {
		value := getenv(variable(flag))
		if value == "" ||
			flags.Changed(flag.Name) ||
			flag.Name == "password" && named && user == "" {
			return
		}

		if err := flags.Set(flag.Name, value); err != nil {
			errs = append(errs,
				fmt.Errorf("environment variable %s: %w", variable(flag), err))
		}
	})

	// A printed command names the user without the password, and may be pasted
	// where the environment has both.
	name, password, _ := strings.Cut(getenv(environment+"USER"), ":")
	if named &&
		user != "" &&
		name == user &&
		flags.Lookup("password").Value.String() == "" {
		errs = append(errs, flags.Set("password", password))
	}

	return errors.Join(errs...)
}
