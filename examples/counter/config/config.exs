import Config

config :logger, level: :info

# The tests take any free port; every other environment is set in runtime.exs.
if config_env() == :test do
  config :counter, port: 0, greeting: nil
  config :logger, level: :warning
end
