package main

import (
	"cmp"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

const noFiles = cobra.ShellCompDirectiveNoFileComp

// completeKeys offers the services' keys, read from etcd. What fails offers nothing.
func (a *app) completeKeys(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	var keys []string
	a.forCompletion(cmd, func(s *store) error {
		services, err := readServices(cmd.Context(), s, typed, func(string) {})
		for _, service := range services {
			keys = append(keys, service.key)
		}
		return err
	})
	return offered(keys), noFiles
}

// completeKeyThenFile offers a key, and then files.
func (a *app) completeKeyThenFile(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeKeys(cmd, args, typed)
}

// completeInstances offers a key, and then its instances.
func (a *app) completeInstances(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completeSecond(cmd, args, typed, func(i *service) (names []string) {
		for _, i := range i.instances {
			names = append(names, i.Instance)
		}
		return names
	})
}

// completeDrained offers a key, and then what is drained there.
func (a *app) completeDrained(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completeSecond(cmd, args, typed, func(s *service) []string {
		if s.config == nil {
			return nil
		}
		return drainList(s.config.value)
	})
}

func (a *app) completeSecond(cmd *cobra.Command, args []string, typed string, names func(*service) []string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return a.completeKeys(cmd, args, typed)
	}
	var found []string
	a.forCompletion(cmd, func(s *store) error {
		entries, _, _, err := s.entriesOf(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		service, _ := surveyKey(args[0], entries)
		if service.config, err = s.get(cmd.Context(), configPrefix+args[0]); err != nil {
			return err
		}
		found = names(service)
		return nil
	})
	return slices.Compact(offered(found)), noFiles
}

// forCompletion runs something on etcd while a shell waits.
func (a *app) forCompletion(cmd *cobra.Command, do func(*store) error) {
	a.settings.noPrompt = true
	err := fromEnvironment(cmd.Flags(), os.LookupEnv)
	if err == nil {
		var s *store
		if s, err = open(cmd.Context(), a.settings); err == nil {
			defer s.close()
			err = do(s)
		}
	}
	if err != nil {
		cobra.CompDebugln(printable.Short(err.Error(), maxText), false)
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
