// Command watch prints type, key and value of each event under a prefix, while it makes them
// through a second client.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	prefix = "watched/"
	events = 4
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "watch:", err)
		os.Exit(1)
	}
}

func run(endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	watcher, err := clientv3.NewFromURL(endpoint)
	if err != nil {
		return err
	}
	defer watcher.Close()
	writer, err := clientv3.NewFromURL(endpoint)
	if err != nil {
		return err
	}
	defer writer.Close()

	responses := watcher.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	created := <-responses
	fmt.Println("created:", created.Created)
	if err := write(ctx, writer); err != nil {
		return err
	}
	for seen := 0; seen < events; {
		response, open := <-responses
		if !open {
			return fmt.Errorf("the channel closed after %d events: %w", seen, ctx.Err())
		}
		if err := response.Err(); err != nil {
			return err
		}
		for _, event := range response.Events {
			before := "nothing"
			if event.PrevKv != nil {
				before = string(event.PrevKv.Value)
			}
			fmt.Printf("%s %s %q after %s\n", event.Type, event.Kv.Key, event.Kv.Value, before)
			seen++
		}
	}
	return nil
}

func write(ctx context.Context, client *clientv3.Client) error {
	if _, err := client.Put(ctx, prefix+"a", "1"); err != nil {
		return err
	}
	if _, err := client.Put(ctx, "elsewhere", "unseen"); err != nil {
		return err
	}
	if _, err := client.Txn(ctx).Then(
		clientv3.OpPut(prefix+"a", "2"),
		clientv3.OpPut(prefix+"é", "3"),
	).Commit(); err != nil {
		return err
	}
	_, err := client.Delete(ctx, prefix+"a")
	return err
}
