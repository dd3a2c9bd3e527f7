// The etcd server of the released module. Its own main package lives in a module that also holds
// etcd's clients and tests; this one needs the server alone.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
