%% The types that several modules share. Nothing calls this module, and no node loads it.
-module(gatling_types).

-export_type([path/0, app_name/0, app/0, release/0, sources/0, files/0, start_type/0, beam/0,
              request/0, answers/0, changes/0, place/0, env/0, suspended/0, callbacks/0,
              child_path/0, child/0, failed/0]).

-type path() :: binary() | string().
-type app_name() :: atom().

%% How a release starts an application, as in its .rel file.
-type start_type() :: permanent | transient | temporary | load | none.

-type app() :: #{name := app_name(),
                 version := string(),
                 directory := string(),
                 type := start_type(),
                 runtime => boolean()}.

-type release() :: #{root := string(),
                     name := string(),
                     version := string(),
                     erts := string(),
                     directory := string(),
                     apps := [app()]}.

%% The application and file of each module of a release. A consolidated protocol may belong to no
%% application.
-type sources() :: #{module() => {app_name() | undefined, string()}}.

%% Files of the new release that are not the same inode in the old one.
-type files() :: #{string() => true}.

%% The properties of a compiled module that are visible from outside.
-type beam() :: #{module := module(),
                  file := binary(),
                  exports => [{atom(), arity()}],
                  behaviours := [module()],
                  version := term(),
                  on_load := boolean(),
                  code_change := boolean(),
                  child_spec := boolean(),
                  schema := boolean(),
                  struct := none | unknown | [atom()],
                  app => app_name() | undefined,
                  runtime => boolean(),
                  old => beam()}.

%% The files that gatling_planner wrote in a node of the old and of the new release.
-type answers() :: none | {Old :: path(), New :: path()}.

%% The keys that are optional here are those of a swap.
-type request() :: #{old := path(),
                     new := path(),
                     files := [path()],
                     direction := up | down,
                     answers := answers(),
                     label => binary(),
                     from => binary(),
                     now_ms => integer(),
                     asker => pid(),
                     suspend_ms => non_neg_integer(),
                     insist => boolean()}.

-type place() :: #{root := string(),
                   version := string(),
                   consolidated := string(),
                   apps := [app()]}.

%% Applications' environments.
-type env() :: [{app_name(), [{Key :: atom(), Value :: term()}]}].

%% A supervisor: its application, and the ids of the children on the way to it.
-type child_path() :: {app_name(), [Id :: term()]}.

%% The specification of a child.
-type child() :: #{id := term(), start := term(), _ => _}.

%% The input of the steps of a swap.
-type changes() :: #{changed := [{module(), Old :: string(), New :: string()}],
                     added := [{module(), string()}],
                     removed := [module()],
                     migrate := [{module(), OldVersion :: term(), NewVersion :: term()}],
                     callers := [{module(), mfa()}],
                     apps_added := [app()],
                     apps_removed := [app()],
                     touched := [app_name()],
                     env_set := [{app_name(), Key :: atom(), Value :: term()}],
                     env_delete := [{app_name(), Key :: atom()}],
                     children := [{child_path(), Start :: [child()], Stop :: [Id :: term()]}],
                     from := place(),
                     to := place()}.

%% Processes to be suspended, each with those of its callback modules that change.
-type suspended() :: [{pid(), [module()]}].

%% The versions of callback modules in the old and in the new release.
-type callbacks() :: #{module() => {Old :: term(), New :: term()}}.

%% Failures after the code was switched.
-type failed() :: [{What :: binary(), Why :: term()}].
