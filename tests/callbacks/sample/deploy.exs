# As a project of Gatling 1 has it: each callback there is.
defmodule SampleProject.DeployCallbacks do
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

  def before_make_deploy_dir(env), do: called("before_make_deploy_dir", env)
  def after_make_deploy_dir(env), do: called("after_make_deploy_dir", env)

  def before_copy_release_to_deploy(env), do: called("before_copy_release_to_deploy", env)
  def after_copy_release_to_deploy(env), do: called("after_copy_release_to_deploy", env)

  def before_expand_release(env), do: called("before_expand_release", env)
  def after_expand_release(env), do: called("after_expand_release", env)

  def before_install_init_script(env), do: called("before_install_init_script", env)
  def after_install_init_script(env), do: called("after_install_init_script", env)

  def before_mix_ecto_setup(env), do: called("before_mix_ecto_setup", env)
  def after_mix_ecto_setup(env), do: called("after_mix_ecto_setup", env)

  def before_start_service(env), do: called("before_start_service", env)
  def after_start_service(env), do: called("after_start_service", env)

  def before_configure_nginx(env), do: called("before_configure_nginx", env)
  def after_configure_nginx(env), do: called("after_configure_nginx", env)

  # The count is kept between callbacks: one process calls them all.
  defp called(name, %Gatling.Env{} = env) do
    count = Process.get(:count, 0) + 1
    Process.put(:count, count)
    log("#{count} #{name} #{env.project}")

    if name == "before_mix_compile",
      do: bash("sh", ["-c", "echo in $(basename $PWD)"], cd: env.build_dir)
  end
end
