package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

const noFiles = cobra.ShellCompDirectiveNoFileComp

// completion completes a service key from etcd, then one of the names of that service; nil: none. After an error it completes nothing.
func (a *app) completion(names func(*inventory.Service) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 1 || len(args) == 1 && names == nil {
			return nil, noFiles
		}
		a.settings.noPrompt = true // a shell waits for the output
		var found []string
		s, err := a.open(cmd, nil)
		if err == nil {
			defer s.Close()
			found, err = candidates(cmd.Context(), s, args, typed, names)
		}
		if err != nil {
			cobra.CompDebugln(printable.Short(err.Error(), output.MaxText), false)
		}
		return slices.Compact(output.Offered(found)), noFiles
	}
}

func candidates(ctx context.Context, s *store.Store, args []string, typed string, names func(*inventory.Service) []string) (found []string, err error) {
	if len(args) == 1 {
		n, err := s.At(ctx, args[0])
		if err != nil {
			return nil, err
		}
		return names(n.Services[0]), nil
	}
	n, err := s.Under(ctx, typed)
	if err != nil {
		return nil, err
	}
	for _, service := range n.Services {
		found = append(found, service.Key)
	}
	return found, nil
}

// completeKeys completes a service key.
func (a *app) completeKeys(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completion(nil)(cmd, args, typed)
}

func instancesOf(s *inventory.Service) (names []string) {
	for _, i := range s.Instances {
		names = append(names, i.Instance)
	}
	return names
}

func drainedOf(s *inventory.Service) []string {
	if policy := s.Policy(); policy != nil {
		return policy.Drain
	}
	return nil
}
