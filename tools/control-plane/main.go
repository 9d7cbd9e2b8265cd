// Every process of a Kubernetes cluster in one binary: the first argument says which.
//
// One binary links what they have in common once, which halves the time to build and the space on disk. CoreDNS is held
// at a version that asks for nothing newer than Kubernetes does, so that it is compiled against the same packages.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/template"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	commands := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllermanager.NewControllerManagerCommand,
		"kube-proxy":              proxy.NewProxyCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	}
	name := ""
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	switch command, known := commands[name]; {
	case name == "etcd":
		etcdmain.Main(os.Args[1:])
	case name == "coredns":
		if err := serveNames(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case known:
		os.Args = os.Args[1:]
		os.Exit(cli.Run(command()))
	default:
		fmt.Fprintln(os.Stderr, "usage: control-plane coredns|etcd|kube-apiserver|kube-controller-manager|kube-proxy|kube-scheduler|kubelet FLAGS")
		os.Exit(64)
	}
}

// serveNames is CoreDNS, which takes `-conf COREFILE`. Its own main would register flags for the whole binary.
func serveNames(arguments []string) error {
	flags := flag.NewFlagSet("coredns", flag.ExitOnError)
	path := flags.String("conf", "Corefile", "what to serve")
	_ = flags.Parse(arguments) // it exits by itself
	contents, err := os.ReadFile(*path)
	if err != nil {
		return err
	}
	// The order in which plugins see a request, as in CoreDNS's own list.
	dnsserver.Directives = []string{"bind", "errors", "cache", "template", "kubernetes"}
	caddy.AppName, caddy.Quiet = "CoreDNS", true
	caddy.TrapSignals()
	server, err := caddy.Start(caddy.CaddyfileInput{Contents: contents, Filepath: *path, ServerTypeName: "dns"})
	if err != nil {
		return err
	}
	server.Wait()
	return nil
}
