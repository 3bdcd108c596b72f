# As a project of Gatling 1 has it: each callback there is.
defmodule SampleProject.UpgradeCallbacks do
  import Gatling.Bash

  def before_mix_deps_get(env), do: called("before_mix_deps_get", env)
  def after_mix_deps_get(env), do: called("after_mix_deps_get", env)

  def before_mix_compile(env), do: called("before_mix_compile", env)
  def after_mix_compile(env), do: called("after_mix_compile", env)

  def before_mix_digest(env), do: called("before_mix_digest", env)
  def after_mix_digest(env), do: called("after_mix_digest", env)

  def before_mix_release_init(env), do: called("before_mix_release_init", env)
  def after_mix_release_init(env), do: called("after_mix_release_init", env)

  def before_mix_release(env), do: called("before_mix_release", env)
  def after_mix_release(env), do: called("after_mix_release", env)

  def before_make_upgrade_dir(env), do: called("before_make_upgrade_dir", env)
  def after_make_upgrade_dir(env), do: called("after_make_upgrade_dir", env)

  def before_copy_release_to_upgrade(env), do: called("before_copy_release_to_upgrade", env)
  def after_copy_release_to_upgrade(env), do: called("after_copy_release_to_upgrade", env)

  def before_upgrade_service(env), do: called("before_upgrade_service", env)
  def after_upgrade_service(env), do: called("after_upgrade_service", env)

  # The count is kept between callbacks: one process calls them all.
  defp called(name, %Gatling.Env{} = env) do
    count = Process.get(:count, 0) + 1
    Process.put(:count, count)
    log("#{count} #{name} #{env.project}")

    if name == "before_mix_compile",
      do: bash("sh", ["-c", "echo in $(basename $PWD)"], cd: env.build_dir)
  end
end
