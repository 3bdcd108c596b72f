defmodule Distillery.MixProject do
  use Mix.Project

  def project, do: [app: :distillery, version: "2.1.1"]
  def application, do: [extra_applications: [:eex, :sasl]]
end
