package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/kubernetes"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestManifests reads the manifests into Kubernetes' own types, which reject misspelled fields, and
// compares them with the server's behaviour.
func TestManifests(t *testing.T) {
	manifests, err := os.ReadFile("kubernetes/greeter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var deployment appsv1.Deployment
	var budget policyv1.PodDisruptionBudget
	documents := bytes.Split(manifests, []byte("\n---\n"))
	into := []any{&deployment, &budget}
	if len(documents) != len(into) {
		t.Fatalf("%d manifests, want %d", len(documents), len(into))
	}
	for i, document := range documents {
		if err := yaml.UnmarshalStrict(document, into[i]); err != nil {
			t.Fatal(err)
		}
	}
	if deployment.Kind != "Deployment" || deployment.APIVersion != "apps/v1" || budget.Kind != "PodDisruptionBudget" || budget.APIVersion != "policy/v1" {
		t.Errorf("got a %s and a %s", deployment.Kind, budget.Kind)
	}
	labels := deployment.Spec.Template.Labels
	for name, value := range deployment.Spec.Selector.MatchLabels {
		if labels[name] != value || budget.Spec.Selector.MatchLabels[name] != value {
			t.Errorf("the selectors want %s=%s, the pods have %v", name, value, labels)
		}
	}
	checkPod(t, deployment.Spec.Template.Spec)
}

// bound is the maximum shutdown time of the server: withdrawal, drain delay, open calls and the
// revocation of the lease, by their defaults.
const bound = (3 + 1 + 20 + 5) * time.Second

func checkPod(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	if got := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; got != kubernetes.Grace || got <= bound {
		t.Errorf("the grace period is %v, want %v, and more than %v", got, kubernetes.Grace, bound)
	}
	container := pod.Containers[0]
	if container.Lifecycle != nil {
		t.Error("the server needs no preStop hook")
	}
	if env := container.Env[0]; env.Name != "GRPC_ADVERTISE_ADDR" || env.ValueFrom.FieldRef.FieldPath != "status.podIP" {
		t.Errorf("the address is %+v", env)
	}
	probe := container.ReadinessProbe.GRPC
	if probe.Port != container.Ports[0].ContainerPort || *probe.Service != runtime.RegistrationHealth {
		t.Errorf("the probe asks port %d for %q", probe.Port, *probe.Service)
	}
}
