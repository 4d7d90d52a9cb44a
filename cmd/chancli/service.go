package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/market"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) serviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "service", Short: "sell HTTP services by the request"}
	var r chandv1.SellRequest
	sell := &cobra.Command{Use: "sell --name N --http URL --price 3/request", Short: "put an HTTP server behind the paywall", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if _, err := market.ParsePrice(r.Price); err != nil {
			return usage("%v", err)
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Services.Sell(cmd.Context(), &r)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			fmt.Fprintf(a.out, "%s sells for %s coins a %s at %s\n", v.Name, v.Price, v.Unit, v.Url)
		})
	}}
	sell.Flags().StringVar(&r.Name, "name", "", "lower-case letters, digits and hyphens")
	sell.Flags().StringVar(&r.Http, "http", "", "the server behind, like http://127.0.0.1:8080")
	sell.Flags().StringVar(&r.Price, "price", "", "amount and unit, like 3/request")
	sell.Flags().StringVar(&r.Description, "description", "", "for buyers")
	for _, f := range []string{"name", "http", "price"} {
		_ = sell.MarkFlagRequired(f) // fails for an unknown flag only
	}
	var l chandv1.ListServicesRequest
	list := &cobra.Command{Use: "list", Short: "services sold here", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Services.List(cmd.Context(), &l)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, s := range v.Services {
				served, earned := "", ""
				if s.Mine {
					served, earned = fmt.Sprint(s.RequestsServed), s.Earned
				}
				rows = append(rows, []string{s.Name, s.Price + "/" + s.Unit, s.Url, s.Http, served, earned, short(s.Provider), s.Description})
			}
			a.table("no services: sell one with `chancli service sell`", []string{"NAME", "PRICE", "URL", "BEHIND", "SERVED", "EARNED", "PROVIDER", "DESCRIPTION"}, rows)
		})
	}}
	list.Flags().BoolVar(&l.IncludeNetwork, "network", false, "offers heard from others too")
	remove := &cobra.Command{Use: "remove NAME", Short: "stop selling a service", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Services.Remove(cmd.Context(), &chandv1.RemoveServiceRequest{Name: args[0]})
		if err != nil {
			return err
		}
		return a.show(v, func() { fmt.Fprintf(a.out, "%s is not sold any more\n", args[0]) })
	}}
	c.AddCommand(sell, list, remove)
	return c
}
