import Config

# Read at each start, on the server too: a release evaluates this file at boot.
if config_env() != :test do
  port =
    case Integer.parse(System.get_env("PORT", "4000")) do
      {port, ""} when port in 1..65_535 -> port
      _ -> raise "PORT must be a number from 1 to 65535, not #{inspect(System.get_env("PORT"))}"
    end

  config :counter, port: port, greeting: System.get_env("GREETING")
end
