package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

const noFiles = cobra.ShellCompDirectiveNoFileComp

// completeKeys completes service keys from etcd. After an error it completes nothing.
func (a *app) completeKeys(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	var keys []string
	a.forCompletion(cmd, func(s *store.Store) error {
		n, err := s.Under(cmd.Context(), typed)
		if err == nil {
			for _, service := range n.Services {
				keys = append(keys, service.Key)
			}
		}
		return err
	})
	return output.Offered(keys), noFiles
}

// completeKeyThenFile completes a key, then a file.
func (a *app) completeKeyThenFile(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeKeys(cmd, args, typed)
}

// completeInstances completes a key, then its instances.
func (a *app) completeInstances(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completeSecond(cmd, args, typed, func(i *inventory.Service) (names []string) {
		for _, i := range i.Instances {
			names = append(names, i.Instance)
		}
		return names
	})
}

// completeDrained completes a key, then the names in its list "drain".
func (a *app) completeDrained(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completeSecond(cmd, args, typed, func(s *inventory.Service) []string {
		if policy := s.Policy(); policy != nil {
			return policy.Drain
		}
		return nil
	})
}

func (a *app) completeSecond(cmd *cobra.Command, args []string, typed string, names func(*inventory.Service) []string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return a.completeKeys(cmd, args, typed)
	}
	var found []string
	a.forCompletion(cmd, func(s *store.Store) error {
		n, err := s.At(cmd.Context(), args[0])
		if err == nil {
			found = names(n.Services[0])
		}
		return err
	})
	return slices.Compact(output.Offered(found)), noFiles
}

// forCompletion connects to etcd and calls do while a shell waits.
func (a *app) forCompletion(cmd *cobra.Command, do func(*store.Store) error) {
	a.settings.noPrompt = true
	s, err := a.open(cmd, nil)
	if err == nil {
		defer s.Close()
		err = do(s)
	}
	if err != nil {
		cobra.CompDebugln(printable.Short(err.Error(), output.MaxText), false)
	}
}
