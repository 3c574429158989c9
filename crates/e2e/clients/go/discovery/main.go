// Command discovery keeps a table of services as programs commonly do: list a prefix, then watch
// it from the revision after the list.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const prefix = "services/web/"

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "discovery:", err)
		os.Exit(1)
	}
}

func run(endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := clientv3.NewFromURL(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()

	for _, name := range []string{"one", "two"} {
		if _, err := client.Put(ctx, prefix+name, "127.0.0.1:80"); err != nil {
			return err
		}
	}
	list, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	table := map[string]string{}
	for _, kv := range list.Kvs {
		table[string(kv.Key)] = string(kv.Value)
	}
	print("listed", table)

	// These changes happen before the watch exists and must be seen all the same.
	if _, err := client.Put(ctx, prefix+"three", "127.0.0.1:81"); err != nil {
		return err
	}
	if _, err := client.Delete(ctx, prefix+"one"); err != nil {
		return err
	}
	responses := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(list.Header.Revision+1))
	for seen := 0; seen < 2; {
		response, open := <-responses
		if !open {
			return fmt.Errorf("the channel closed: %w", ctx.Err())
		}
		for _, event := range response.Events {
			if event.Type == clientv3.EventTypeDelete {
				delete(table, string(event.Kv.Key))
			} else {
				table[string(event.Kv.Key)] = string(event.Kv.Value)
			}
			print(event.Type.String(), table)
			seen++
		}
	}
	return nil
}

func print(what string, table map[string]string) {
	lines := make([]string, 0, len(table))
	for key, address := range table {
		lines = append(lines, strings.TrimPrefix(key, prefix)+"@"+address)
	}
	sort.Strings(lines)
	fmt.Println(what, strings.Join(lines, " "))
}
