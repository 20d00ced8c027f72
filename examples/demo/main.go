// Command demo shows that calls go on while their servers and etcd come and go.
//
// It builds this repository's plugin and runs it on the proto of
// examples/quickstart, then builds the quickstart's server and the program in
// the directory story. Finally, it runs the program story with its own
// arguments.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/codegen"
)

const (
	repository = "github.com/etcdrpc/protoc-gen-go-etcd"
	quickstart = repository + "/examples/quickstart"
	protoFile  = "greeter/v1/greeter.proto"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := run(ctx, os.Stdout, os.Args[1:]...); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1) //nolint:gocritic // the process ends, so stop is not needed
	}
}

// run prints each step before it begins, and its time when it has ended.
func run(ctx context.Context, out *os.File, args ...string) error {
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	generated := func() (string, error) {
		return generate(ctx, filepath.Join(dir, "protoc-gen-go-etcd"))
	}

	for _, step := range []struct {
		title string
		do    func() (result string, err error)
	}{
		{"Building this plugin, protoc-gen-go-etcd",
			build(ctx, dir, repository+"/cmd/protoc-gen-go-etcd")},
		{"Running it on " + protoFile, generated},
		{"Building a server of that service, with gRPC and etcd's client",
			build(ctx, dir, quickstart+"/server")},
		{"Building an etcd of three members, and the calls",
			build(ctx, dir, repository+"/examples/demo/story")},
	} {
		start := time.Now()
		fmt.Fprintf(out, "%s ... ", step.title)

		result, err := step.do()
		if err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}

		fmt.Fprintf(out, "%.1f s\n%s", time.Since(start).Seconds(), result)
	}

	story := exec.CommandContext(ctx, filepath.Join(dir, "story"),
		append([]string{"-server", filepath.Join(dir, "server")}, args...)...)
	story.Stdout = out
	story.Stderr = os.Stderr

	// On SIGTERM the program stops its servers.
	story.Cancel = func() error { return story.Process.Signal(syscall.SIGTERM) }

	return story.Run()
}

// build returns a step that builds a program into dir.
func build(ctx context.Context, dir, program string) func() (string, error) {
	return func() (string, error) {
		output, err := exec.CommandContext(
			ctx, "go", "build", "-o", dir, program).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w\n%s", err, output)
		}

		return "", nil
	}
}

// generate runs the plugin on the quickstart's proto and returns the functions
// that it generates. The file must equal the one that is checked in, with which
// the server is built.
func generate(ctx context.Context, plugin string) (functions string, err error) {
	output, err := exec.CommandContext(
		ctx, "go", "list", "-m", "-f", "{{.Dir}}", quickstart).Output()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", quickstart, err)
	}

	dir := strings.TrimSpace(string(output))
	file, err := runPlugin(ctx, plugin,
		filepath.Join(dir, "proto"), filepath.Join(dir, "third_party", "etcd"))
	if err != nil {
		return "", err
	}

	path := filepath.Join(dir, "gen", filepath.FromSlash(file.GetName()))
	checkedIn, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}

	if file.GetContent() != string(checkedIn) {
		return "", fmt.Errorf("%s is not what is checked in: run make generate",
			file.GetName())
	}

	functions = fmt.Sprintf("    %s, as it is checked in, has\n", file.GetName())
	for line := range strings.Lines(file.GetContent()) {
		signature, ok := strings.CutSuffix(line, " {\n")
		if ok && strings.HasPrefix(line, "func ") {
			functions += "    " + signature + "\n"
		}
	}

	return functions, nil
}

// runPlugin returns the file that the plugin generates for protoFile. dirs are
// the directories of protoFile and its imports.
func runPlugin(
	ctx context.Context,
	plugin string,
	dirs ...string,
) (*pluginpb.CodeGeneratorResponse_File, error) {
	sources := &protocompile.SourceResolver{ImportPaths: dirs}
	request, err := codegen.Request(ctx, sources, protoFile)
	if err != nil {
		return nil, err
	}

	cmd := exec.CommandContext(ctx, plugin)
	cmd.Stdin = bytes.NewReader(request)
	cmd.Stderr = os.Stderr

	output, err := cmd.Output()
	if err != nil {
		return nil, err
	}

	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return nil, err
	}

	if response.Error != nil || len(response.GetFile()) != 1 {
		return nil, fmt.Errorf("%d generated files, error %q; want one file",
			len(response.GetFile()), response.GetError())
	}

	return response.GetFile()[0], nil
}
