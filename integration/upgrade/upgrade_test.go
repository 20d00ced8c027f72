// Package upgrade runs fleets of processes of two versions on one etcd. Each
// thing that a team does while it upgrades is a script in testdata. The scripts
// run with the earlier version as A and the later as B, and the other way
// round. A version is a directory with three programs:
//
//	etcdrpc
//	peer     this test as a server or a caller: see TestMain
//	skewed   a peer whose clocks may differ from the machine's, on Linux
//
// "make upgrade FROM=REVISION" builds both versions.
package upgrade

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
)

var (
	from = flag.String("from", "", "`directory` of the earlier version's programs")
	to   = flag.String("to", "", "`directory` of the later version's programs")
)

func TestUpgrade(t *testing.T) {
	if *from == "" {
		t.Skip("make upgrade FROM=REVISION builds the programs")
	}

	t.Run("old beside new", func(t *testing.T) { run(t, *from, *to) })
	t.Run("new beside old", func(t *testing.T) { run(t, *to, *from) })
}

// run runs the scripts, each on an etcd of its own.
func run(t *testing.T, a, b string) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			t := env.T().(testing.TB)
			etcd := etcdtest.Start(t, etcdtest.WithMembers(2))
			env.Values["etcd"] = etcd
			env.Values["t"] = t
			env.Setenv("A", a)
			env.Setenv("B", b)
			env.Setenv("ETCDCTL_ENDPOINTS", etcd.Endpoints()[0])
			env.Setenv("FIRST", etcd.Endpoints()[0])
			env.Setenv("SECOND", etcd.Endpoints()[1])
			env.Setenv("SNAPSHOTS", filepath.Join(env.WorkDir, "snapshots"))
			env.Setenv("LEADERS", t.TempDir())
			env.Setenv("BRIDGE", porttest.Refusing(t))
			env.Setenv("OTHER", kit.Listen(t).Addr().String())
			env.Setenv("GRPC_XDS_BOOTSTRAP", filepath.Join(env.WorkDir, "xds.json"))

			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"etcd": etcd,
			"sees": sees,
		},
	})
}

// etcd stops or starts etcd, or cuts off its first member: etcd
// down|up|cut|mend
func etcd(ts *testscript.TestScript, _ bool, args []string) {
	cluster := ts.Value("etcd").(*etcdtest.Cluster)

	switch args[0] {
	case "down":
		cluster.Stop()
	case "up":
		ts.Check(cluster.Restart())
	case "cut":
		cluster.Member(0).Cut()
	case "mend":
		cluster.Member(0).Restore()
	}
}

// sees waits for a report of a caller: sees FILE REGEXP
func sees(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[1])
	var got []byte
	kit.EventuallyOr(ts.Value("t").(testing.TB), kit.Soon,
		func() string { return args[0] + " to see " + args[1] + ", not " + string(got) },
		func() bool {
			got, _ = os.ReadFile(ts.MkAbs(args[0])) // none before the first report
			return want.Match(got)
		})
}
