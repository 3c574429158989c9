// Command kv writes and reads one key whose name and value are not ASCII, each call under a
// deadline of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	key   = "ключ/日本/ß"
	value = "värde ☃ 🦀"
	// Far more than a call takes: a busy machine may stand still for some seconds.
	deadline = 30 * time.Second
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "kv:", err)
		os.Exit(1)
	}
}

func run(endpoint string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: deadline})
	if err != nil {
		return err
	}
	defer client.Close()

	put, err := within(func(ctx context.Context) (*clientv3.PutResponse, error) {
		return client.Put(ctx, key, value)
	})
	if err != nil {
		return err
	}
	get, err := within(func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.Get(ctx, key)
	})
	if err != nil {
		return err
	}
	for _, kv := range get.Kvs {
		fmt.Printf("%s = %s version %d\n", kv.Key, kv.Value, kv.Version)
		fmt.Println("read at the revision of the write:", kv.ModRevision == put.Header.Revision)
	}
	deleted, err := within(func(ctx context.Context) (*clientv3.DeleteResponse, error) {
		return client.Delete(ctx, key)
	})
	if err != nil {
		return err
	}
	fmt.Println("deleted", deleted.Deleted)
	return nil
}

// within gives a call its deadline.
func within[T any](call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return call(ctx)
}
