package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/kubernetes"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// said holds the expected output of each example.
var said = map[string][]string{
	"kubernetes": {"called at its own", "exited with 0", "none failed"},
	"migrate": {
		"before: calls reach old",
		"the old server has left",
		"the new layout alone: calls reach new",
		"none failed",
	},
}

func TestExamples(t *testing.T) {
	for _, example := range examples {
		t.Run(example.Name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := example.Run(t.Context(), &out)
			t.Logf("output:\n%s", out.String())
			must.Succeed(t, err)

			if len(said[example.Name]) == 0 {
				t.Errorf("the map said has no expected output for %s", example.Name)
			}

			for _, want := range said[example.Name] {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q", want)
				}
			}
		})
	}
}

// TestManifests reads the manifests into Kubernetes' own types, which reject
// misspelled fields, and compares them with the server's behaviour.
func TestManifests(t *testing.T) {
	manifests, err := os.ReadFile("kubernetes/greeter.yaml")
	must.Succeed(t, err)

	var deployment appsv1.Deployment
	var budget policyv1.PodDisruptionBudget

	documents := bytes.Split(manifests, []byte("\n---\n"))
	into := []any{&deployment, &budget}
	if len(documents) != len(into) {
		t.Fatalf("%d manifests, want %d", len(documents), len(into))
	}

	for i, document := range documents {
		must.Succeed(t, yaml.UnmarshalStrict(document, into[i]))
	}

	if deployment.Kind != "Deployment" ||
		deployment.APIVersion != "apps/v1" ||
		budget.Kind != "PodDisruptionBudget" ||
		budget.APIVersion != "policy/v1" {
		t.Errorf("the manifests are a %s and a %s, want a Deployment of apps/v1 and a PodDisruptionBudget of policy/v1",
			deployment.Kind, budget.Kind)
	}

	labels := deployment.Spec.Template.Labels
	for name, value := range deployment.Spec.Selector.MatchLabels {
		if labels[name] != value || budget.Spec.Selector.MatchLabels[name] != value {
			t.Errorf("the pods have the labels %v, want %s=%s, as in both selectors",
				labels, name, value)
		}
	}

	checkPod(t, deployment.Spec.Template.Spec)
}

// bound is the maximum shutdown time of the server: withdrawal, drain delay,
// open calls and the revocation of the lease, by their defaults.
const bound = (3 + 1 + 20 + 5) * time.Second

func checkPod(t *testing.T, pod corev1.PodSpec) {
	t.Helper()

	got := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	if got != kubernetes.Grace || got <= bound {
		t.Errorf("the grace period is %v, want %v, and more than %v", got, kubernetes.Grace, bound)
	}

	container := pod.Containers[0]
	if container.Lifecycle != nil {
		t.Error("the container has a preStop hook, want none: the server drains by itself")
	}

	env := container.Env[0]
	if env.Name != "GRPC_ADVERTISE_ADDR" || env.ValueFrom.FieldRef.FieldPath != "status.podIP" {
		t.Errorf("the first variable is %+v, want GRPC_ADVERTISE_ADDR from status.podIP", env)
	}

	probe := container.ReadinessProbe.GRPC
	if probe.Port != container.Ports[0].ContainerPort ||
		*probe.Service != runtime.RegistrationHealth {
		t.Errorf("the probe asks port %d for %q, want port %d, %q",
			probe.Port, *probe.Service,
			container.Ports[0].ContainerPort, runtime.RegistrationHealth)
	}
}
